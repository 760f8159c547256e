"""`python -m benchmarks.scale.runs`: the cost of whole runs over made-up text.

loads    how often four worker processes load one of twenty teachers, in a run in which each teacher has many shards
memory   with `top_k: 0`, for ten times the text compared with a tenth of it
workers  two worker processes compared with one, in turn, each with one thread, with a teacher of two layers: the rate of
         finished shards, counted after every worker has finished its first
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

WORDS = 5000
GOALS = {"loads": 0.07, "memory": 1.1, "workers": 1.8}
TEACHERS, PROCESSES = 20, 4
# For `loads`: bytes of a language's text, and bytes of a shard.
_TEXT_BYTES, _SMALL_SHARD = 2**18, 2**12
# For `workers`: bytes and number of shards, and how often each run is repeated.
_SHARD_BYTES, _SHARDS, _ROUNDS = 2**18, 40, 2


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GOALS, help="measure only this")
    parser.add_argument("--megabytes", type=int, default=10_000, help="size of the larger text of `memory`, in MB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        words = _words()
        _make_teacher(root / "teacher", words)
        if options.only in (None, "loads"):
            _measure_loads(root, words)
        if options.only in (None, "memory"):
            _measure_memory(root, words, options.megabytes)
        if options.only in (None, "workers"):
            _measure_workers(root, words)


def _measure_loads(root: Path, words: list[str]) -> None:
    _write_text(root / "text.txt", words, _TEXT_BYTES)
    loads, shards = _count_loads(root)
    _print(
        f"loads: {loads:,} for {shards:,} shards, {loads / shards:.3f} per shard; the goal is at most {GOALS['loads']}"
    )


def _measure_memory(root: Path, words: list[str], megabytes: int) -> None:
    peaks = []
    for size in (megabytes // 10, megabytes):
        _write_text(root / "text.txt", words, size * 10**6)
        with _run(root, top_k=0) as run:
            peaks.append(run.megabytes)
            _print(f"memory: {size:,} MB of text: {run.megabytes:,.0f} MB at most, {run.seconds:,.0f} s")
    ratio = peaks[1] / peaks[0]
    _print(f"memory: ten times the text takes {ratio:.3f} times the memory; the goal is at most {GOALS['memory']}")


def _measure_workers(root: Path, words: list[str]) -> None:
    _write_text(root / "text.txt", words, _SHARDS * _SHARD_BYTES)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(_ROUNDS):
        for workers, of_workers in seconds.items():
            arguments = ("--direct_running_mode=multi_processing", f"--direct_num_workers={workers}")
            with _run(root, *arguments, inference_threads=1, shard_bytes=_SHARD_BYTES) as run:
                done = sorted(path.stat().st_mtime for path in (run.output / "en").rglob("*.parquet"))
            of_workers.append((done[-1] - done[workers - 1]) / (len(done) - workers))
            _print(f"workers: {workers}, {of_workers[-1]:.2f} s per shard")
    ratio = sum(seconds[1]) / sum(seconds[2])
    _print(f"workers: two are {ratio:.2f} times as fast as one; the goal is {GOALS['workers']}")


def _print(line: str) -> None:
    print(line, flush=True)


def _words() -> list[str]:
    source = random.Random(0)
    return sorted({"".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(WORDS)})


def _write_text(path: Path, words: list[str], size: int) -> None:
    source, written = random.Random(1), 0
    with path.open("w") as file:
        while written < size:
            lines = [" ".join(source.choices(words, k=source.randint(5, 60))) + "\n" for _ in range(1000)]
            written += sum(map(len, lines))
            file.writelines(lines)


def _make_teacher(folder: Path, words: list[str]) -> None:
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    BertTokenizer({token: number for number, token in enumerate(tokens)}).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 1024}
    BertForMaskedLM(BertConfig(vocab_size=len(tokens), **shape)).save_pretrained(folder)


def _count_loads(root: Path) -> tuple[int, int]:
    """Returns (times that a worker loaded a teacher, shards) for `TEACHERS` teachers in `PROCESSES` processes."""
    import apache_beam as beam

    from pipeline.config import PipelineConfig
    from pipeline.engine.options import beam_options, threads_a_process
    from pipeline.job.beam_job import build
    from pipeline.job.finalize import list_output, read_finished
    from pipeline.job.launcher import begin
    from pipeline.job.prepare import prepare
    from pipeline.job.worker import METRICS, PredictUnits
    from pipeline.text.survey import find_text

    names = [f"l{number}" for number in range(TEACHERS)]
    with tempfile.TemporaryDirectory() as output:
        config = PipelineConfig.model_validate(
            {
                "output": output,
                "teachers": {name: {"model": str(root / "teacher"), "languages": [name]} for name in names},
                "text": {name: [str(root / "text.txt")] for name in names},
                "shard_bytes": _SMALL_SHARD,
            }
        )
        options = beam_options(["--direct_running_mode=multi_processing", f"--direct_num_workers={PROCESSES}"])
        prepared = prepare(config, find_text(config))
        begin(config, prepared)
        job = beam.Pipeline(options=options)
        build(job, prepared.units, config, PredictUnits(config, prepared.run, threads_a_process(options)))
        result = job.run()
        result.wait_until_finish()
        counters = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(METRICS))["counters"]
        loads = sum(counter.committed for counter in counters if counter.key.metric.name == "teacher_loads")
        return loads, len(read_finished(output, prepared.units, list_output(output)).table)


@dataclass(frozen=True)
class _Run:
    """A finished run of the pipeline: the peak resident memory of its launcher, its seconds, its folder."""

    megabytes: float
    seconds: float
    output: Path


@contextmanager
def _run(root: Path, *arguments: str, **settings: object) -> Iterator[_Run]:
    """Runs `python -m pipeline`. Its folder exists inside the `with` block."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "predictions")
        config = {
            "output": str(output),
            "teachers": {"teacher": {"model": str(root / "teacher"), "languages": ["en"]}},
            "text": {"en": [str(root / "text.txt")]},
        } | settings
        Path(folder, "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        started = time.monotonic()
        command = [sys.executable, "-m", "pipeline", f"{folder}/config.yaml", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{' '.join(command)} failed")
        yield _Run(usage.ru_maxrss / 1000, time.monotonic() - started, output)


if __name__ == "__main__":
    main()
