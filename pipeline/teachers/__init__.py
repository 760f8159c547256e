"""One teacher: its tokenizer exactly as published, its model, and its predictions at masked positions.

All ids are the teacher's, except in `loading`, which adds the map to merged ids. It may import `pipeline.config`
and `schemas`; every other package may import it. `family` and `tokenizer_json` load neither torch nor
transformers. Tests are in `tests/pipeline/teachers`.
"""
