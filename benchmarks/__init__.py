"""Speed, as ratios to what a user would write otherwise, measured in one run. Not tests."""
