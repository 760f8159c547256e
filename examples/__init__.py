"""Examples to run or copy: `demo` runs the whole project on a laptop, `hub` has configurations of a real run.

May import the pipeline, the trainer and `schemas`; only tests and benchmarks import it. Its tests are in
`tests/system/test_demo.py` and `tests/documents`.
"""
