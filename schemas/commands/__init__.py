"""The commands that need neither stage: `mergedistill inspect`, `schema` and `env`.

`schemas.cli` starts them by name; nothing imports them. Tests: `tests/schemas/commands`,
`tests/schemas/test_inspect.py`.
"""
