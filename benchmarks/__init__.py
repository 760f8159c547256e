"""Benchmarks of speed and memory, each compared in one run with what a user would write instead. These are not tests.

May import every package of the project, and `tests.support` and `examples` for text. `python -m benchmarks.NAME --help`
says what each one measures; `benchmarks/requirements.txt` lists their dependencies.
"""
