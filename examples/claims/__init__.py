"""The paper's claims at a small scale: `python -m examples.claims` trains everything and writes a table of claims."""
