"""What a run writes to its output folder: checkpoints, metrics, and the exported student with its model card.

Imports `trainer.student`, `trainer.data`, `trainer.loss` and packages below them. The loop and the `export` command may
import it. Its tests are in `tests/trainer/artifacts`.
"""
