"""The text: finding files, cutting them into ranges of whole records, and reading the records of a range.

The pipeline reads what teachers predict from here, the trainer what models are evaluated on. Nothing here knows of tokens
or models. Tests are in `tests/schemas/corpus`.
"""
