"""The contract between the two stages: rows, merged vocabulary and manifest, plus the code that both share.

The contract itself is in `rows`, `vocabulary` and `manifest`; `row_groups` and `validation` read and check rows. Around
it: configurations (`config`, `yaml_nodes`), files and URLs (`storage`, `paths`, `lock`), reading text
(`corpus`), errors and how a command ends (`errors`, `process`), the commands that need neither stage (`cli`,
`commands`).

`pipeline` writes predictions, `trainer` reads them, and neither imports the other; both may import any module here.
This package imports neither of them, and no Beam, torch or transformers, so that the image of either stage can include
it. Its tests are in `tests/schemas`.
"""

__version__ = "0.1.0"
SCHEMA_VERSION = 3
