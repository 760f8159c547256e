"""`python -m benchmarks.scale`: what grows with the size of a run, beside a run of a tenth of it.

  trainer  from the configuration to the reader: opening predictions (the list of files, the folder's listing) and
           making a reader, in a process of its own. The files are empty ones of the right size; no row is read.

Times are processor seconds of the process, memory is what it takes beyond its imports.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.made_up import make_manifest
from schemas.file_table import FILE_SCHEMA, FileTable
from schemas.predictions import open_predictions
from schemas.ragged import list_array
from schemas.tables import format_table
from schemas.vocabulary import SPECIAL_ROLES, VOCABULARY_FILE, Vocabulary, write_vocabulary
from trainer.config import SamplingConfig
from trainer.data.reader import Reader

VOCABULARY, ROW_GROUP_ROWS, GROUPS = 1000, 2048, 4
GOALS = {"seconds": 5.0, "megabytes": 200.0}


def make_folder(folder: Path, files: int, languages: int) -> None:
    """Predictions of which only the manifest is real."""
    random = np.random.default_rng(0)
    tokens = [*(f"<{role}>" for role in SPECIAL_ROLES), *(f"▁{n}" for n in range(VOCABULARY - len(SPECIAL_ROLES)))]
    roles = [*SPECIAL_ROLES, *["word"] * (VOCABULARY - len(SPECIAL_ROLES))]
    vocabulary = Vocabulary(tokens, roles, {"teacher": np.arange(VOCABULARY, dtype=np.int32)})
    write_vocabulary(str(folder / VOCABULARY_FILE), vocabulary)
    language_F = np.sort(random.integers(0, languages, files))
    names = [f"l{number:03d}" for number in range(languages)]
    rows_G = random.integers(1, ROW_GROUP_ROWS, files * GROUPS)
    rows_F = rows_G.reshape(files, GROUPS).sum(1)
    size_F = random.integers(1000, 100_000, files)
    paths = [f"{names[language]}/teacher/{number:06d}.parquet" for number, language in enumerate(language_F.tolist())]
    columns = {
        "path": paths,
        "language": [names[language] for language in language_F.tolist()],
        "teacher": ["teacher"] * files,
        "rows": rows_F,
        "row_groups": list_array(rows_G, np.arange(files + 1) * GROUPS),
        "tokens": rows_F * 60,
        "masked_positions": rows_F * 9,
        "size": size_F,
        "footer_sha256": [f"{number:064x}" for number in range(files)],
    }
    table = pa.table({field.name: pa.array(columns[field.name]).cast(field.type) for field in FILE_SCHEMA}, FILE_SCHEMA)
    for path, size in zip(paths, size_F.tolist(), strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("wb") as file:
            file.truncate(size)
    rows = np.bincount(language_F, rows_F, languages).astype(int).tolist()
    make_manifest(str(folder), vocabulary, dict(zip(names, rows, strict=True)), FileTable(table))


def start_trainer(folder: str) -> dict[str, float]:
    """Opens the predictions and makes a reader of eight lanes."""
    before, used = time.process_time(), _megabytes()
    reader = Reader(open_predictions(folder), SamplingConfig(), 8192, 0, lanes=8, local_lanes=range(8))
    figures = {"seconds": time.process_time() - before, "megabytes": _megabytes() - used}
    reader.close()
    return figures


def _megabytes() -> float:
    """The most memory that this process has had. (`getrusage` would count what the process that started it had.)"""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) / 1000


def _in_a_process(folder: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "--folder", folder], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    """Measures, and prints the figures beside the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=250_000)
    parser.add_argument("--languages", type=int, default=200)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(start_trainer(options.folder)))
        return
    rows = []
    for files in (options.files // 10, options.files):
        with tempfile.TemporaryDirectory() as folder:
            make_folder(Path(folder), files, options.languages)
            os.sync()
            figures = _in_a_process(folder)
        rows.append([f"{files:,}", f"{figures['seconds']:.2f}", f"{figures['megabytes']:.0f}"])
    print(
        f"{options.languages} languages; a trainer's start, goals {GOALS['seconds']:g} s and {GOALS['megabytes']:g} MB"
    )
    print(format_table(["files", "processor seconds", "MB"], rows, "rrr"))


if __name__ == "__main__":
    main()
