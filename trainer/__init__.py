"""Stage two: one student over the merged vocabulary, trained from the pipeline's Parquet.

This level has what a user runs or edits: the commands (`__main__`, `export`), the configuration, and where training
runs (`distributed`). The subpackages have the implementation. Each may import only those after it in the order loop,
artifacts, student, data and loss, distributed, config; all may import `schemas`, none may import `pipeline` or Beam.
`evaluation` is a separate command over models and text. The tests are in `tests/trainer`, those of whole runs in
`tests/system`.
"""
