"""README.md, CONTRIBUTING.md, CHANGELOG.md and docs/: what they say is true, and what they show runs."""
