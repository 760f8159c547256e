"""Runs of the trainer: their configuration, their processes, and their output."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from schemas.config import load_config
from tests.support import world
from tests.support.commands import call, run_python, start_python
from tests.support.damage import rewrite
from trainer.config import TrainerConfig
from trainer.distributed import Runtime
from trainer.loop import train as loop


def write_config(folder: Path, predictions, heldout, shape=(), **changes) -> Path:
    settings = {
        "output": str(folder / "student"),
        "predictions": list(map(str, predictions)) if isinstance(predictions, list) else str(predictions),
        "heldout": heldout and str(heldout),
        "student": {
            "settings": {
                "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 64, "max_position_embeddings": world.MAX_LENGTH, **dict(shape),
            }
        },
        "sampling": {"shuffle_rows": 256},
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 5},
        "max_steps": 40,
        "batch_tokens": 1024,
        "precision": "float32",
        "save_steps": 10,
        "logging_steps": 10,
    } | changes  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def train(config: Path) -> subprocess.CompletedProcess:
    """Runs the trainer in this process."""
    return call("trainer.__main__", config)


def launch(config: Path, *launcher: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs the trainer in one or several new processes: `launcher` has Python's arguments before `config`."""
    return run_python(*(launcher or ("-m", "trainer")), config, **environment)


def launch_two(config: Path) -> subprocess.CompletedProcess:
    """Runs the trainer in two processes."""
    return launch(config, *TWO)


def start(config: Path, *launcher: str) -> subprocess.Popen:
    """Starts the trainer in one or several new processes."""
    return start_python(*(launcher or ("-m", "trainer")), config)


def has_logged(output: Path) -> bool:
    """Returns whether a run has written its first figures."""
    metrics = output / "metrics.jsonl"
    return metrics.exists() and bool(metrics.read_text())


def train_student(folder: Path, predictions, heldout=None, **changes) -> Path:
    """Trains in this process without catching errors; returns the output folder."""
    config = load_config(str(write_config(folder, predictions, heldout, **changes)), TrainerConfig)
    loop.train(config, Runtime(0, 1, torch.device("cpu"), torch.float32))
    return folder / "student"


def assert_same_weights(one: Path, other: Path) -> None:
    theirs, ours = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[key], ours[key]) for key in theirs)


def steps_of(output: Path) -> list[int]:
    return [line["step"] for line in map(json.loads, (output / "metrics.jsonl").read_text().splitlines())]


def spoil(folder: Path, copy: Path, rows: int) -> list[str]:
    """Copies predictions and puts a NaN prediction into the first rows of each file; returns the example ids of these rows."""
    shutil.copytree(folder, copy)
    spoiled = []
    for path in sorted(copy.glob("*/*/*.parquet")):
        table = pq.ParquetFile(path).read()
        lists = table["topk_logprobs"].to_pylist()
        for index in range(rows):
            lists[index] = [np.float16("nan")] * len(lists[index])
        spoiled += table["example_id"][:rows].to_pylist()
        rewrite(copy, path.relative_to(copy).as_posix(), topk_logprobs=lists)
    return spoiled


# Starts two processes by torchrun.
TWO = ("-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "trainer")


def assert_close_weights(one: Path, other: Path) -> None:
    """Asserts equal weights, up to rounding: a gradient's norm is summed in another order."""
    theirs, ours = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert theirs.keys() == ours.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-4, atol=1e-5)


def heldout_nll(output: Path) -> dict[int, float]:
    """Returns the logged NLL by step, averaged over languages."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {
        line["step"]: sum(row["nll"] for row in line["heldout"].values()) / len(line["heldout"])
        for line in lines
        if "heldout" in line
    }


CONSTANT = {"learning_rate": 3e-3, "warmup_steps": 5, "lr_scheduler_type": "constant_with_warmup"}


# A rate at which the loss soon rises again, so that the best evaluation is neither the first nor the last.
EARLY_STOPPING = {
    "max_steps": 200,
    "optimizer": {"learning_rate": 0.05, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 60},
    "eval_steps": 10,
    "early_stopping_patience": 3,
    "export": "best",
    "save_steps": 35,
    "save_total_limit": 1,
}


NEEDS_COMPILER = pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no C++ compiler")
