"""The merged vocabulary: when tokens of two teachers count as one (`identity`), and the union of all tokens (`merge`).

It may import `teachers` (tokenizers, never models), `pipeline.config` and `schemas`; `shard`, `student_tokenizers`,
`trim`, `drift` and `job` may import it. Tests are in `tests/pipeline/vocabulary`.
"""
