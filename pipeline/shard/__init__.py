"""The unit of work: one range of text, read by one teacher, becomes one Parquet file.

`process` says how, step by step: read, tokenize, mask, predict, encode. What it does depends on the shard and the
configuration alone. It may import `teachers`, `vocabulary`, `pipeline.config` and `schemas`, but not Beam;
`trim` and `job` import it. `shard` and `parquet` load no torch. Tests are in `tests/pipeline/shard`.
"""
