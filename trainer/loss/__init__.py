"""The distillation objective as a function of log-probabilities, and its computation chunk by chunk.

Imports torch alone. The student, the artifacts and the loop may import it. Its tests are in `tests/trainer/loss`.
"""
