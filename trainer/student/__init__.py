"""The model that is trained: its shape, its initial weights, and the path from a batch to its losses.

Imports `trainer.data`, `trainer.loss`, packages below them, and `transformers`. The artifacts and the loop may import
it. Its tests are in `tests/trainer/student`.
"""
