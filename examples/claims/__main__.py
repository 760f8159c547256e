"""`python -m examples.claims`: runs everything behind the claims, two steps at a time, then writes the table of claims.

Everything is written below `claims/`. Rerun it to resume: finished steps are skipped.
"""

import sys
import time
from pathlib import Path

from examples.claims.corpora import make_tags, make_text
from examples.claims.plan import plan
from examples.claims.report import write_claims
from examples.schedule import run_steps

ROOT = Path("claims")


def main() -> None:
    """Runs every step, and writes `claims/report.md`."""
    started = time.monotonic()
    make_text(ROOT)
    has_tags = make_tags(ROOT)
    run_steps(plan(ROOT, has_tags), ROOT, processes=2)
    write_claims(ROOT, has_tags)
    print(f"\nclaims: {time.monotonic() - started:.0f} s in this call")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; run it again to go on")
