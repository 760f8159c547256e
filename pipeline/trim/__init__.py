"""The command `python -m pipeline.trim`: predictions over a smaller vocabulary, without tokens that no text uses.

`tokens` and `manifests` hold the pure functions, `tasks` the work of a worker on a few files, `folders` the whole
command. It may import every package except `job`; nothing imports it. Tests are in `tests/pipeline/trim`.
"""
