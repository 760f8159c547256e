"""The training loop: it learns, and it continues only the same run."""

import json

import pytest
import torch

from schemas.predictions import open_predictions
from tests.support.training import (
    assert_same_weights,
    heldout_nll,
    train,
    train_student,
    write_config,
)
from trainer.artifacts.checkpoint import checkpoint_steps


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


def test_a_run_that_ends_during_an_evaluation_loses_no_steps(predictions, heldout, tmp_path, monkeypatch):
    config = {"max_steps": 20, "eval_steps": 10, "save_steps": 10}
    whole = train_student(tmp_path / "whole", predictions, heldout, **config)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trainer.loop.train.evaluate", killed)
        for _ in range(2):
            # The second run only repeats the evaluation.
            with pytest.raises(KeyboardInterrupt):
                train_student(tmp_path / "killed", predictions, heldout, **config)
            assert checkpoint_steps(str(tmp_path / "killed" / "student")) == [10]
    student = train_student(tmp_path / "killed", predictions, heldout, **config)
    assert_same_weights(whole, student)
    assert heldout_nll(whole) == heldout_nll(student)
    assert (whole / "evaluation.json").read_bytes() == (student / "evaluation.json").read_bytes()


def test_only_languages_that_are_read_decide_which_student_is_best(predictions, heldout, tmp_path):
    changes = {"max_steps": 5, "sampling": {"languages": ["hi"]}}
    student = train_student(tmp_path, predictions, heldout, **changes)
    state = json.loads((student / "checkpoints" / "00000005" / "state.json").read_text())
    scores = json.loads((student / "evaluation.json").read_text())["languages"]
    assert len(scores) == 3 and state["early_stopping"]["best_nll"] == scores["hi"]["nll"]


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
