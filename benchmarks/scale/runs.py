"""`python -m benchmarks.scale.runs`: what whole runs take, over made-up text.

loads    how often four worker processes load a teacher, of twenty, in a run in which each has many shards
memory   with `top_k: 0`, of ten times the text beside a tenth of it
workers  two worker processes beside one, each of one thread, with a teacher of two layers; the time of a run of little
         text (starting, checks, tokenizers) is taken off
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

WORDS = 5000
GOALS = {"loads": 0.07, "memory": 1.1, "workers": 1.8}
TEACHERS, PROCESSES = 20, 4
# Of a teacher's language in `loads`.
_TEXT_BYTES, _SMALL_SHARD = 2**18, 2**12
# A shard of the runs of workers, and how many there are at least.
_SHARD_BYTES, _SHARDS = 2**18, 40


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=10_000, help="of the larger text of `memory`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        words = _words()
        _make_teacher(root / "teacher", words)
        _write_text(root / "text.txt", words, _TEXT_BYTES)
        loads, shards = _count_loads(root)
        print(
            f"loads: {loads:,} for {shards:,} shards, {loads / shards:.3f} a shard; the goal is {GOALS['loads']} at most",
            flush=True,
        )
        peaks = {}
        for megabytes in (options.megabytes // 10, options.megabytes):
            _write_text(root / "text.txt", words, megabytes * 10**6)
            peaks[megabytes], seconds = _run(root, top_k=0)
            print(f"memory: {megabytes:,} MB of text: {peaks[megabytes]:,.0f} MB at most, {seconds:,.0f} s", flush=True)
        first, last = peaks.values()
        print(
            f"memory: ten times the text takes {last / first:.3f} of the memory; the goal is {GOALS['memory']} at most"
        )
        seconds = {}
        for shards in (1, _SHARDS):
            _write_text(root / "text.txt", words, shards * _SHARD_BYTES)
            for workers in (1, 2):
                options_of_beam = ("--direct_running_mode=multi_processing", f"--direct_num_workers={workers}")
                _, seconds[shards, workers] = _run(
                    root, *options_of_beam, inference_threads=1, shard_bytes=_SHARD_BYTES
                )
        one, two = (seconds[_SHARDS, workers] - seconds[1, workers] for workers in (1, 2))
        print(f"workers: one {one:,.1f} s, two {two:,.1f} s: {one / two:.2f}x; the goal is {GOALS['workers']}x")


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
    """(times that a worker loaded a teacher, shards) of a run of `TEACHERS` teachers in `PROCESSES` processes."""
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


def _run(root: Path, *arguments: str, **settings: object) -> tuple[float, float]:
    """(the highest resident megabytes of `python -m pipeline`, its seconds)."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "output": f"{folder}/predictions",
            "teachers": {"teacher": {"model": str(root / "teacher"), "languages": ["en"]}},
            "text": {"en": [str(root / "text.txt")]},
        } | settings
        Path(folder, "config.yaml").write_text(yaml.safe_dump(config))
        started = time.monotonic()
        command = [sys.executable, "-m", "pipeline", f"{folder}/config.yaml", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{' '.join(command)} failed")
        return usage.ru_maxrss / 1000, time.monotonic() - started


if __name__ == "__main__":
    main()
