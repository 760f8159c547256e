"""Text: finds files, cuts them into ranges of whole records, and reads the records of a range.

The pipeline reads the teachers' text through this package, the trainer the text for evaluations. Nothing here depends
on tokens or models. Its tests are in `tests/schemas/corpus`.
"""
