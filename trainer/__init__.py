"""Stage two: one student over the merged vocabulary, trained from the pipeline's Parquet.

What a user runs or edits lies here: the commands (`__main__`, `export`), the configuration, and where training runs
(`distributed`). The folders below hold the machinery. Imports point downwards only: loop, artifacts, student, data and
loss, distributed, config; all of them may import `schemas`, none may import `pipeline` or Beam. `evaluation` is a command of its
own over models and text. The tests are in `tests/trainer`, those of whole runs in `tests/system`.
"""
