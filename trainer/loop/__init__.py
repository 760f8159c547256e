"""The training loop: its steps, the work due after each step, evaluations, early stopping, and continuation.

Imports every other package of the trainer; only `trainer.__main__` imports it. Its tests are in `tests/trainer/loop`.
"""
