"""A trainer's start on the predictions of a large run, on two ranks: the first reads them, the other receives them."""

import multiprocessing
import os
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.made_up import make_manifest
from benchmarks.scale.memory import megabytes
from schemas.file_table import FILE_SCHEMA, FileTable
from schemas.predictions import open_predictions
from schemas.ragged import list_array
from schemas.vocabulary import SPECIAL_ROLES, VOCABULARY_FILE, Vocabulary, write_vocabulary
from trainer.config import SamplingConfig
from trainer.data.reader import Reader
from trainer.distributed import start_runtime, stop_runtime

RANKS, LANES = 2, 8
WHAT = "trainer's start on two ranks"
VOCABULARY, ROW_GROUP_ROWS, GROUPS = 1000, 2048, 4


def make(folder: Path, files: int, shards: int, languages: int) -> None:
    """Writes predictions of which only the manifest is real."""
    files = shards
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
        "footer_sha256": [random.bytes(32).hex() for _ in range(files)],
    }
    table = pa.table({field.name: pa.array(columns[field.name]).cast(field.type) for field in FILE_SCHEMA}, FILE_SCHEMA)
    for path, size in zip(paths, size_F.tolist(), strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("wb") as file:
            file.truncate(size)
    rows = np.bincount(language_F, rows_F, languages).astype(int).tolist()
    make_manifest(str(folder), vocabulary, dict(zip(names, rows, strict=True)), FileTable(table))


def measure(folder: Path, files: int, shards: int, languages: int) -> dict[str, float]:
    """Measures the more expensive rank: the first opens the predictions, both make a reader of four of eight lanes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS)}
    with ProcessPoolExecutor(RANKS, multiprocessing.get_context("spawn")) as pool:
        of_ranks = list(pool.map(partial(_start, str(folder)), range(RANKS)))
    return {what: max(figures[what] for figures in of_ranks) for what in of_ranks[0]}


def _start(folder: str, rank: int) -> dict[str, float]:
    os.environ["RANK"] = str(rank)
    runtime = start_runtime("float32")
    runtime.barrier()
    before, used = time.process_time(), megabytes()
    predictions = runtime.from_main(lambda: open_predictions(folder))
    lanes = range(rank * LANES // RANKS, (rank + 1) * LANES // RANKS)
    reader = Reader(predictions, SamplingConfig(), 8192, 0, lanes=LANES, local_lanes=lanes)
    seconds, used = time.process_time() - before, megabytes() - used
    reader.close()
    runtime.barrier()
    stop_runtime()
    return {f"{WHAT}: processor seconds": seconds, f"{WHAT}: MB": used}
