"""The text: finding files, cutting them into ranges of whole records, and reading the records of a range.

Nothing here knows of tokens or teachers, and nothing imports torch, so that planning a run is quick. It may import
`pipeline.config` and `schemas`; `shard`, `job` and `drift` import it. Tests are in `tests/pipeline/corpus`.
"""
