"""README.md, CONTRIBUTING.md, CHANGELOG.md and docs/: their statements are true, and their examples run."""
