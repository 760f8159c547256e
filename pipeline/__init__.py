"""Stage one: turns text into masked rows with the top-k predictions of their teachers, as Parquet.

`python -m pipeline` is the command and `pipeline.config` its configuration; `pipeline.drift` and `pipeline.trim` are
commands that read its output. `schemas.corpus` reads the records. The packages, bottom layer first: `teachers` and
`engine`; `vocabulary`; `shard` and `student_tokenizers`; `text`; `trim`; `job`. Each may import `schemas` and the
layers before it; nothing here imports `trainer`, and only `engine` and `job` import Beam. `pyproject.toml` enforces
this with import contracts. Tests are in `tests/pipeline`; tests of whole runs are in `tests/system`.
"""
