"""Evaluation: measures models on the user's own files, and ranks candidates for teachers.

`mergedistill evaluate CONFIG.yaml` runs it. `tasks` has one module for each task, `formats` reads labelled files, `store` caches
scores, `report` writes JSON, Markdown and HTML, `comparison` ranks candidates for teachers. Plain transformers loads the
models, so any model can be compared with a student. Nothing here imports the rest of the trainer except `artifacts`, whose
metrics files it reads. Tests are in `tests/trainer/evaluation`.
"""
