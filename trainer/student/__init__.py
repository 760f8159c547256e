"""The model that is trained: its shape, the weights it starts from, and the path from a batch to its losses.

Imports `trainer.data`, `trainer.loss` and what lies below them, and `transformers`. The artifacts and the loop may import
it. Its tests are in `tests/trainer/student`.
"""
