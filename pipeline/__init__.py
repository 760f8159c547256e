"""Stage one: from text to masked rows with the top-k predictions of their teachers, as Parquet.

`python -m pipeline` is the command, `pipeline.config` what it is told; `pipeline.drift` and `pipeline.trim` are commands
over its output. Records are read by `schemas.corpus`. The packages, from the ground up (each may import those before it, and
`schemas`; nothing here imports `trainer`, and only `engine` and `job` import Beam): `teachers` and `engine`; `vocabulary`;
`shard` and `student_tokenizers`; `text`; `trim`; `job`. `pyproject.toml` holds these directions as import contracts. Tests are in
`tests/pipeline`, those of whole runs in `tests/system`.
"""
