"""The work on one shard: some records of a language, read by one teacher, become one Parquet file.

`process` does it step by step: tokenize, mask, predict, encode. Its result depends only on the shard and the
configuration. It may import `teachers`, `vocabulary`, `pipeline.config` and `schemas`, but not Beam;
`text`, `trim` and `job` import it. `shard` and `parquet` do not load torch. Tests are in `tests/pipeline/shard`.
"""
