"""The student's tokenizers: each teacher's with merged ids, and a default one for text of any language.

It may import `teachers`, `vocabulary` and `schemas`; `trim`, `drift` and `job` import it. Tests are in
`tests/pipeline/student_tokenizers`.
"""
