"""Runs small tasks, in threads of this process (`tasks`) or on the workers of a Beam runner (`workers`).
If a worker is lost, a Beam job ends with a one-line error (`job`, `watched`).

Work that reads a lot and returns little is cut into tasks: surveys of text, counts of words and tokens, trimmed files.
It may import only `schemas`; `text`, `trim`, `drift` and `job` import it. Tests are in `tests/pipeline/engine`.
"""
