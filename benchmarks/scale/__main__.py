"""`python -m benchmarks.scale`: costs that grow with the size of a run, compared with a run of a tenth of it.

  launcher  finds 10,000 files of 100 MB in 200 languages, plans them for 20 teachers, samples them, writes their listings
            and translates the job; a filesystem makes up the files as they are read, and counts the bytes it returns
  again     `run_pipeline` on the folder of a finished run: finds the text's files, reuses the results of earlier checks,
            lists the folder, and makes the manifest from the tables of the units; the folder is made up
  manifest  made from these tables
  trainer   on two ranks, from the folder to the reader: the first opens predictions (the list of files, the folder's
            listing), the other receives them, both make a reader; the more expensive rank counts
  trim      the work of its launcher outside its tasks: joins manifests and makes the manifest of the written files

Each runs in a separate process. Times are its processor seconds; memory excludes its imports. Files of earlier runs are
replaced by empty ones of the right size; no row is read.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from schemas.tables import format_table

# (module, what is measured, its goal at full size)
MEASURED = [
    ("launcher", "launcher: processor seconds", 60),
    ("launcher", "launcher: MB", 500),
    # The equivalent of 64 KiB of each of 64 files.
    ("launcher", "launcher: MiB of a language's text that are read", 4),
    ("launcher", "launcher: MB of the job's graph", 10),
    # The worst case: every unit of work needs another teacher than its worker has loaded.
    ("launcher", "launcher: loads of a teacher a shard, at most", 0.07),
    ("finished", "finished run called again: processor seconds", 30),
    ("finished", "manifest: processor milliseconds a shard", 0.1),
    ("trainer", "trainer's start on two ranks: processor seconds", 5),
    ("trainer", "trainer's start on two ranks: MB", 200),
    ("trim", "trim's launcher: processor seconds", 5),
    ("trim", "trim's launcher: MB", 200),
]


def main() -> None:
    """Measures, and prints the figures and the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="how many text files, of 100 MB each")
    parser.add_argument("--shards", type=int, default=250_000)
    parser.add_argument("--languages", type=int, default=200)
    parser.add_argument("--measure", nargs=2, metavar=("MODULE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = {"files": options.files, "shards": options.shards, "languages": options.languages}
    if options.measure:
        module, folder = options.measure
        print(json.dumps(importlib.import_module(f"benchmarks.scale.{module}").measure(Path(folder), **size)))
        return
    tenth = size | {"files": options.files // 10, "shards": options.shards // 10}
    figures = [{} for _ in (tenth, size)]
    for measured, of_size in zip(figures, (tenth, size), strict=True):
        for module in dict.fromkeys(module for module, _, _ in MEASURED):
            with tempfile.TemporaryDirectory() as folder:
                importlib.import_module(f"benchmarks.scale.{module}").make(Path(folder), **of_size)
                os.sync()
                measured |= _in_a_process(module, folder, of_size)
    heads = ["", *(f"{of_size['files']:,} files, {of_size['shards']:,} shards" for of_size in (tenth, size)), "goal"]
    rows = [[what, *(f"{measured[what]:,.3g}" for measured in figures), f"{goal:g}"] for _, what, goal in MEASURED]
    print(f"{options.languages} languages")
    print(format_table(heads, rows, "lrrr"))


def _in_a_process(module: str, folder: str, size: dict[str, int]) -> dict[str, float]:
    options = [part for name, value in size.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.scale", "--measure", module, folder, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
