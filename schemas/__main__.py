"""`python -m schemas VERB ...`: the same as `mergedistill VERB ...`, where the project is not installed."""

from schemas.cli import main

if __name__ == "__main__":
    main("python -m schemas")
