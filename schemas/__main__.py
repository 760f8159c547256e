"""`python -m schemas VERB ...`: `mergedistill VERB ...` without installing the project."""

from schemas.cli import main

if __name__ == "__main__":
    main("python -m schemas")
