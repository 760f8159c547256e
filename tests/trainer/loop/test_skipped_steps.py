"""Steps whose gradient is not finite."""

import json
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import UserError
from tests.support.readers import reader, take
from tests.support.training import (
    spoil,
    write_config,
)
from trainer.__main__ import main
from trainer.data.reader import example_ids
from trainer.distributed import Runtime
from trainer.loop.skipped_steps import SkippedSteps
from trainer.loss.sparse import Losses


@pytest.mark.heavy
def test_steps_whose_gradient_is_not_finite_are_left_out(predictions, tmp_path, monkeypatch, capfd):
    # The reader would refuse such a row, but it reliably gives a gradient that is not finite.
    spoiled = spoil(predictions, tmp_path / "spoiled", 1)
    monkeypatch.setattr("schemas.row_groups.find_fault", lambda rows, expected: None)
    changes = {"max_steps": 20, "logging_steps": 4}
    handlers = list(map(signal.getsignal, signal.valid_signals()))

    def run(name: str, limit: int) -> tuple[int, str]:
        folder = tmp_path / name
        code = main([str(write_config(folder, tmp_path / "spoiled", None, max_skipped_steps=limit, **changes))])
        # Training inside another program's process restores its signal handlers.
        assert list(map(signal.getsignal, signal.valid_signals())) == handlers
        return code, "".join(capfd.readouterr())

    code, printed = run("lenient", 20)
    assert code == 0, printed
    student = tmp_path / "lenient" / "student"
    lines = list(map(json.loads, (student / "metrics.jsonl").read_text().splitlines()))
    assert 0 < lines[-1]["skipped_steps"] <= 20
    assert "warning: skipped, because the gradient was NaN or infinite: step" in printed
    weights = load_file(student / "model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    # The losses of the other positions are still reported.
    assert all(np.isfinite(list(row.values())).all() for line in lines for row in line["train"].values())
    code, printed = run("strict", 0)
    assert code == 2 and "more than max_skipped_steps (0)" in printed
    assert any(name in printed for name in spoiled)
    assert "Traceback" not in printed


class TwoProcesses(Runtime):
    """The first of two processes, of which the other has given `others` to the calls of `gather`."""

    def __init__(self, *others: object):
        super().__init__(0, 2, torch.device("cpu"), torch.float32)
        object.__setattr__(self, "others", list(others))

    def gather(self, value: object) -> list:
        return [value, self.others.pop(0)]


@pytest.mark.parametrize("culprits", [["theirs/2"], []])
def test_only_the_rows_at_fault_are_named(predictions, culprits):
    """Another process has the loss that is not finite, or no process has one and the gradient overflowed."""
    (batch,) = take(reader(predictions), 1)
    finite_M = torch.zeros(len(batch.labels_M))
    losses = Losses(torch.tensor(0.0), *[finite_M] * 5)
    skipped = SkippedSteps(0, 0, TwoProcesses(bool(culprits), culprits))
    skipped.add_batch(1, batch, losses)
    skipped.add_step(1, torch.tensor(True))
    with pytest.raises(UserError) as raised:
        skipped.check()
    rows = example_ids(batch.origins, range(len(batch.origins.row_B)))
    assert any(name in str(raised.value) for name in rows) is not bool(culprits)
    assert all(name in str(raised.value) for name in culprits)
