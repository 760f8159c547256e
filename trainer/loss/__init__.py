"""The distillation objective as a function of log-probabilities, and its computation in chunks.

Besides `schemas` it imports only torch. The student, the artifacts and the loop may import it. Its tests are in
`tests/trainer/loss`.
"""
