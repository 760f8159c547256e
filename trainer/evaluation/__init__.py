"""Evaluation: what a model is good for, measured on the files that people have, and which teachers to choose.

`mergedistill evaluate CONFIG.yaml` runs it. `tasks` has one module for each task, `formats` reads labelled files, `store` keeps
what is scored, `report` writes JSON, Markdown and HTML, `comparison` ranks candidates for teachers. Models are loaded by plain
transformers, so that any model can stand beside a student. Nothing here imports the rest of the trainer except
`artifacts`, whose metrics files it reads. Tests are in `tests/trainer/evaluation`.
"""
