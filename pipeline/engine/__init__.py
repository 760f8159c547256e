"""Where small pieces of work run: in threads of this process (`tasks`), or on the workers of a Beam runner (`workers`).
Beam's jobs end with a line where a worker is lost (`job`, `watched`).

What reads much and gives little is cut into tasks: surveys of text, counts of words and tokens, trimmed files. It may import `schemas`
alone; `text`, `trim`, `drift` and `job` import it. Tests are in `tests/pipeline/engine`.
"""
