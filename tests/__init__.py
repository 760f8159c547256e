"""The tests: folders as in the code, `support` with what they share, `system` with what needs the whole."""
