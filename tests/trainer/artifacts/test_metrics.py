"""The metrics that a run writes while it trains."""

import os
import shutil
import time
from dataclasses import replace

import pytest
import torch

from tests.support import world
from tests.support.readers import reader, take
from tests.support.training import (
    launch,
    write_config,
)
from trainer.artifacts.metrics import Metrics, read_metrics, summary
from trainer.config import TrainerConfig
from trainer.distributed import Runtime
from trainer.loss.sparse import Losses


def test_metrics_are_logged(student):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(student / "logs")).Reload()
    tags = events.Tags()["scalars"]
    for language in world.WORDS:
        assert {f"mlm/{language}", f"kd/{language}", f"heldout_nll/{language}"} <= set(tags)
        assert [event.step for event in events.Scalars(f"mlm/{language}")] == [10, 20, 30, 40]


def test_means_of_many_positions_are_exact(tmp_path, predictions):
    """A float32 sum of ones ends at 2^24."""
    config = TrainerConfig(output=str(tmp_path), predictions="p", student={"architecture_from": "m"}, max_steps=1)
    metrics = Metrics(config, ["en"], 0, Runtime(0, 1, torch.device("cpu"), torch.float32))
    positions = 2**22
    loss_M, is_right_M = torch.full((positions,), 5.0), torch.arange(positions) % 2 == 0
    losses = Losses(torch.tensor(0.0), loss_M, loss_M, loss_M, is_right_M, is_right_M)
    batch = replace(take(reader(predictions), 1)[0], language_M=torch.zeros(positions, dtype=torch.int64))
    for _ in range(5):
        metrics.add(batch, losses)
    metrics.log(1, 0.1, torch.tensor([0.5]), 0, {})
    metrics.close()
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    expected = {"mlm": 5.0, "kd": 5.0, "kl": 5.0, "accuracy": 0.5, "teacher_agreement": 0.5}
    assert line["train"] == {"en": expected}


def test_a_log_has_few_lines_of_progress(tmp_path, capsys):
    """A week's log would be huge with ten lines a second."""
    config = TrainerConfig(output=str(tmp_path), predictions="p", student={"architecture_from": "m"}, max_steps=100)
    metrics = Metrics(config, ["en"], 0, Runtime(0, 1, torch.device("cpu"), torch.float32))
    for _ in range(100):
        time.sleep(0.005)
        metrics.step()
    metrics.close()
    progress = capsys.readouterr().err
    assert "100/100" in progress and progress.count("step/s") <= 2


def test_a_progress_line_of_many_languages_names_the_worst():
    few = {"en": {"mlm": 2.0, "kd": 1.0, "accuracy": 0.5}, "de": {"mlm": 3.0, "kd": 2.0, "accuracy": 0.4}}
    assert summary(few) == "en 2.00/1.00, de 3.00/2.00"
    assert summary({name: {"mlm": row["mlm"]} for name, row in few.items()}) == "en 2.00, de 3.00"
    many = {f"l{number}": {"mlm": number / 100, "kd": 1.0} for number in range(200)}
    assert summary(many) == (
        "200 languages 0.99/1.00, worst l199 1.99/1.00, l198 1.98/1.00, l197 1.97/1.00, l196 1.96/1.00, l195 1.95/1.00"
    )


@pytest.mark.heavy
def test_weights_and_biases(predictions, heldout, tmp_path):
    """The real package, offline, records the figures; a run that is continued stays the same run."""
    changes = {"max_steps": 20, "wandb_project": "merge", "eval_steps": 20}
    config = write_config(tmp_path, predictions, heldout, **changes)
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = launch(config, **environment)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "student" / "checkpoints" / "00000020")
    (tmp_path / "student" / "evaluation.json").unlink()
    assert launch(config, **environment).returncode == 0
    folder = tmp_path / "student" / "logs"
    recorded = [path.read_bytes() for path in (folder / "wandb").glob("offline-run-*/*.wandb")]
    assert len(recorded) == 2
    for content in recorded:
        assert all(text in content for text in (b"merge", (folder / "wandb_run").read_bytes(), b"heldout_nll"))
        assert all(name in content for name in (b"mlm/en", b"kd/hi", b"kd_weight/ru", b"tokens_per_second"))


def test_a_kill_at_start_keeps_the_metrics(tmp_path, monkeypatch):
    from trainer.artifacts.metrics import _reopen

    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            _reopen(path, 1)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    _reopen(path, 1).close()
    assert path.read_text() == '{"step": 1}\n'
