"""`python -m trainer` without row checks: it also trains on rows whose gradient is not finite, which it normally rejects."""

import os
import sys

import schemas.row_groups

schemas.row_groups.find_fault = lambda rows, expected: None

if __name__ == "__main__":
    from trainer.__main__ import main

    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Exits like the trainer itself, see `schemas.process`.
    os._exit(code)
