"""`python -m benchmarks.reader`: the trainer's reader compared with a bare scan and with streaming by `datasets`.

Every way reads the same Parquet (made-up rows, or a folder of predictions) in a separate process. All ways run in several
rounds; the medians count.

  bare       pyarrow reads the columns of every row group with its threads and drops the result
  ours       the trainer's reader: permuted row groups, mixed languages, shuffled rows, batches by length, padded tensors
  unchecked  ours without the check of every row (`schemas.validation`), which may take 3 % of the processor time
  datasets   `load_dataset("parquet", streaming=True)` with a shuffle buffer of the same size, batches by length, padded
             tensors

Needs `pip install -r benchmarks/requirements.txt`.
"""

import argparse
import gc
import importlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time

from schemas.predictions import Predictions, open_predictions

BATCH_TOKENS = 8192
COLUMNS = ["input_ids", "masked_positions", "labels", "label_logprobs", "topk_ids", "topk_logprobs"]
WAYS = ("bare", "ours", "unchecked", "datasets")
GOALS = {"bare": 0.8, "datasets": 5}
MOST_CHECKING = 0.03


def rows_of(predictions: Predictions) -> int:
    """Returns the rows in the folder."""
    return sum(file.record.rows for file in predictions.files)


def bare(predictions: Predictions, rows: int, pool_rows: int) -> int:
    """Reads whole epochs until it has read `rows` rows."""
    import pyarrow.parquet as pq

    read = 0
    while True:
        for file in predictions.files:
            parquet = pq.ParquetFile(file.url)
            for group in range(parquet.num_row_groups):
                read += len(parquet.read_row_group(group, columns=COLUMNS))
                if read >= rows:
                    return read


def ours(predictions: Predictions, rows: int, pool_rows: int) -> int:
    """Takes batches until they hold `rows` rows."""
    from trainer.config import SamplingConfig
    from trainer.data.reader import Reader

    reader, read = Reader(predictions, SamplingConfig(alpha=1, shuffle_rows=pool_rows), BATCH_TOKENS, seed=0), 0
    for (batch,) in reader:
        read += len(batch.input_ids_BL)
        if read >= rows:
            reader.close()
            return read
    raise AssertionError("the reader is endless")


def unchecked(predictions: Predictions, rows: int, pool_rows: int) -> int:
    """Like `ours`, with a reader that does not check the rows."""
    import schemas.row_groups

    schemas.row_groups.find_fault = lambda rows, expected: None
    return ours(predictions, rows, pool_rows)


def datasets(predictions: Predictions, rows: int, pool_rows: int) -> int:
    """Makes the same kind of batches as a user would with `datasets`."""
    import numpy as np
    import torch
    from datasets import load_dataset

    def collate(chosen: list[dict]) -> dict[str, torch.Tensor]:
        ids = [torch.from_numpy(row["input_ids"]).long() for row in chosen]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        positions = [row["masked_positions"] + index * padded.shape[1] for index, row in enumerate(chosen)]
        joined = {name: np.concatenate([row[name] for row in chosen]) for name in COLUMNS[2:]}
        return {"input_ids": padded, "attention_mask": mask, "rows": torch.from_numpy(np.concatenate(positions))} | {
            name: torch.from_numpy(values) for name, values in joined.items()
        }

    stream = load_dataset("parquet", data_files=[f.url for f in predictions.files], streaming=True, split="train")
    stream = stream.select_columns(COLUMNS).shuffle(seed=0, buffer_size=pool_rows).with_format("numpy")
    read, pool = 0, []
    for row in stream:
        pool.append(row)
        if len(pool) < pool_rows:
            continue
        pool.sort(key=lambda row: len(row["input_ids"]))
        while pool:
            longest = len(pool[-1]["input_ids"])
            chosen, pool = pool[-(BATCH_TOKENS // longest) :], pool[: -(BATCH_TOKENS // longest)]
            read += len(collate(chosen)["input_ids"])
        if read >= rows:
            return read
    return read


def measure(way: str, folder: str, rows: int, pool_rows: int) -> dict:
    """Returns rows, seconds, and seconds of processor time."""
    predictions = open_predictions(folder)
    # Import first, so that the time of the imports does not count.
    importlib.import_module({"bare": "pyarrow.parquet", "datasets": "datasets"}.get(way, "trainer.data.reader"))
    gc.freeze()  # The trainer does this too.
    before, before_cpu = time.perf_counter(), time.process_time()
    read = globals()[way](predictions, rows, pool_rows)
    return {"rows": read, "seconds": time.perf_counter() - before, "cpu": time.process_time() - before_cpu}


def main() -> int:
    """Prints a table; `--way` is for the processes that it starts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader", description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", help="folder that the pipeline wrote (default: made-up rows)")
    parser.add_argument("--rows", type=int, default=300_000, help="rows of the made-up predictions")
    parser.add_argument(
        "--epochs", type=int, default=10, help="how often the rows are read (by the way `datasets` a tenth of that)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shuffle-rows", type=int, default=16_384)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        rows = (
            arguments.epochs
            * rows_of(open_predictions(arguments.predictions))
            // (10 if arguments.way == "datasets" else 1)
        )
        print(json.dumps(measure(arguments.way, arguments.predictions, rows, arguments.shuffle_rows)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.predictions or scratch
        if not arguments.predictions:
            from benchmarks.made_up import make_predictions

            make_predictions(folder, 250_000, arguments.rows, 4)
        options = ["--predictions", folder, "--epochs", arguments.epochs, "--shuffle-rows", arguments.shuffle_rows]
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        costs: dict[str, list[float]] = {way: [] for way in WAYS}
        for _, way in itertools.product(range(arguments.rounds), WAYS):
            command = [sys.executable, "-m", "benchmarks.reader", *map(str, options), "--way", way]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{way:10} did not run: {done.stderr.strip().splitlines()[-1]}")
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            rates[way].append(row["rows"] / row["seconds"])
            costs[way].append(row["cpu"] / row["rows"])
            print(f"{way:10}{row['rows']:>10,} rows{row['seconds']:8.1f} s{rates[way][-1]:>12,.0f} rows/s")
        for peer, goal in GOALS.items():
            if rates[peer]:
                medians, fastest = (of(rates["ours"]) / of(rates[peer]) for of in (statistics.median, max))
                print(f"ours / {peer}: {medians:.2f} by the medians (goal {goal}), {fastest:.2f} by the fastest rounds")
        if costs["unchecked"]:
            median, least = (1 - of(costs["unchecked"]) / of(costs["ours"]) for of in (statistics.median, min))
            print(
                f"checking rows: {median:.1%} of the reader's processor time by the medians (goal {MOST_CHECKING:.0%}), "
                f"{least:.1%} by the leanest rounds"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
