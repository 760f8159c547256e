"""From Parquet row groups to padded batches: which rows a step gets, and the threads that read and collate them.

Imports `schemas`, `trainer.config` and `trainer.distributed`, and knows no model. The student, the artifacts and the
loop may import it. Its tests are in `tests/trainer/data`.
"""
