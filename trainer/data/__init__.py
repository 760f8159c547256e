"""From Parquet row groups to padded batches: which rows a step gets, and the threads that read and collate them.

Imports `schemas` and `trainer.config`, and does not depend on any model. The student, the artifacts and the
loop may import it. Its tests are in `tests/trainer/data`.
"""
