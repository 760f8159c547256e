"""The training loop: its steps, what is due after which step, evaluations, early stopping, and continuation.

Imports every other package of the trainer; only `trainer.__main__` imports it. Its tests are in `tests/trainer/loop`.
"""
