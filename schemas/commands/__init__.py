"""The commands that need neither stage: `mergedistill inspect`, `schema` and `env`.

They are started by `schemas.cli`, by name; nothing imports them. Tests: `tests/schemas/commands`, `tests/schemas/test_inspect.py`.
"""
