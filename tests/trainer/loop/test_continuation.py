"""More steps for a finished run: they match the longer run bit for bit, or are refused in one line."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from schemas.errors import UserError
from tests.support.training import CONSTANT, assert_same_weights, train_student
from trainer.artifacts.checkpoint import checkpoint_steps


def evaluated_steps(output: Path) -> list[int]:
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if "heldout" in line]


@pytest.mark.heavy
def test_more_steps_are_those_of_the_longer_run(predictions, heldout, tmp_path):
    """So is the optimizer's state; the additional evaluation at the former end changes nothing."""
    changes = {"optimizer": CONSTANT, "eval_steps": 8, "early_stopping_patience": 2, "save_steps": 100}
    whole = train_student(tmp_path / "whole", predictions, heldout, max_steps=30, **changes)
    output = train_student(tmp_path / "extended", predictions, heldout, max_steps=13, **changes)
    assert json.loads((output / "evaluation.json").read_text())["step"] == 13
    assert train_student(tmp_path / "extended", predictions, heldout, max_steps=30, **changes) == output
    assert_same_weights(whole, output)
    moments = [load_file(folder / "checkpoints" / "00000030" / "optimizer.safetensors") for folder in (whole, output)]
    assert all(moments[0][name].equal(moments[1][name]) for name in moments[0])
    assert evaluated_steps(output) == sorted({*evaluated_steps(whole), 13})
    assert json.loads((output / "evaluation.json").read_text()) == json.loads((whole / "evaluation.json").read_text())


@pytest.fixture(scope="module")
def finished(predictions, tmp_path_factory) -> dict[str, Path]:
    """Finished runs of six steps, by what is planned over the steps."""
    folder = tmp_path_factory.mktemp("finished")
    plans = {
        "constant": {"optimizer": CONSTANT},
        "linear": {},
        "cosine": {"optimizer": CONSTANT | {"lr_scheduler_type": "cosine"}},
        "lambda": {"optimizer": CONSTANT, "distillation": {"kd_weight": 1, "final_kd_weight": 0}},
        "lambda of a language": {
            "optimizer": CONSTANT,
            "distillation": {"languages": {"hi": {"kd_weight": 0.5, "final_kd_weight": 1}}},
        },
    }
    for name, changes in plans.items():
        train_student(folder / name, predictions, max_steps=6, save_steps=6, **changes)
    return {name: (folder / name, changes) for name, changes in plans.items()}


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("linear", r"the learning rate \(optimizer.lr_scheduler_type: linear\)"),
        ("cosine", r"the learning rate \(optimizer.lr_scheduler_type: cosine\)"),
        ("lambda", r"lambda \(distillation.final_kd_weight\)"),
        ("lambda of a language", r"lambda \(distillation.final_kd_weight\)"),
    ],
)
def test_what_is_planned_over_all_steps_gets_no_more(finished, predictions, name, by):
    folder, changes = finished[name]
    before = (folder / "student" / "model.safetensors").read_bytes()
    with pytest.raises(
        UserError, match=rf"steps was 6, now 8, but {by} depends on max_steps .*start_from: {folder}"
    ) as refusal:
        train_student(folder, predictions, max_steps=8, save_steps=6, **changes)
    assert "\n" not in str(refusal.value) and (folder / "student" / "model.safetensors").read_bytes() == before
    train_student(folder, predictions, max_steps=6, save_steps=6, **changes)


def test_fewer_steps_than_there_are_is_refused(finished, predictions):
    folder, changes = finished["constant"]
    with pytest.raises(UserError, match="steps is 5, but the run is already at step 6"):
        train_student(folder, predictions, max_steps=5, **changes)


def test_another_run_is_still_another_run(finished, predictions, tmp_path):
    """A change of something else is still noticed."""
    folder, changes = finished["constant"]
    shutil.copytree(folder / "student", tmp_path / "student")
    with pytest.raises(UserError, match="of step 6 is from another run .*max_steps was 6, now 8; seed was 0, now 4"):
        train_student(tmp_path, predictions, max_steps=8, seed=4, **changes)
    assert checkpoint_steps(str(tmp_path / "student")) == [6]
