"""Commands, run as users run them."""

import os
import subprocess
import sys

from tests.support.paths import ROOT


def run(stage: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", stage, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
