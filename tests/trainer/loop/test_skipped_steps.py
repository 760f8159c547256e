"""Steps whose gradient is not finite."""

import json
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.training import (
    spoil,
    write_config,
)
from trainer.__main__ import main


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
