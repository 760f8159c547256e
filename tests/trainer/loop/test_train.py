"""The training loop: it learns, and it continues only the same run."""

import json

import pytest
import torch

from schemas.predictions import open_predictions
from tests.support.training import (
    train,
    write_config,
)


def test_training_learns(student, predictions):
    """Even these few steps beat a student that knows nothing by a wide margin."""
    vocabulary = open_predictions(str(predictions)).vocabulary
    know_nothing = torch.tensor(float(len(vocabulary))).log().item()
    for result in json.loads((student / "evaluation.json").read_text())["languages"].values():
        assert result["nll"] < know_nothing - 1


def test_another_configuration_does_not_go_on(student, predictions, heldout, tmp_path):
    config = write_config(tmp_path, predictions, heldout, output=str(student), seed=9)
    done = train(config)
    assert done.returncode == 2
    assert "seed was 0, now 9" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.heavy
def test_mlm_only_needs_no_predictions(run_pipeline, tmp_path):
    masked = run_pipeline(tmp_path / "masked", top_k=0)
    done = train(write_config(tmp_path, masked, masked, distillation={"kd_weight": 0}, max_steps=6))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "student" / "evaluation.json").read_text())["languages"]
    assert all(row["teacher_nll"] is None and row["nll"] > 0 for row in result.values())
    line = json.loads((tmp_path / "student" / "metrics.jsonl").read_text().splitlines()[0])
    assert all(row.keys() == {"mlm", "accuracy"} for row in line["train"].values())
    refused = train(write_config(tmp_path / "kd", masked, None))
    assert refused.returncode == 2 and "top_k: 0" in refused.stderr
