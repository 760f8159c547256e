"""The command `python -m pipeline.trim`: predictions over a smaller vocabulary, without tokens that no text uses.

`tokens` holds the pure functions, `folders` what reads and writes. It may import every package except `job`; nothing
imports it. Tests are in `tests/pipeline/trim`.
"""
