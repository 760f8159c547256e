"""Early stopping keeps the best evaluation, and a run stops at the same step however often it is killed."""

import json
import shutil

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from schemas.predictions import open_predictions
from tests.support.commands import SECONDS, wait_until
from tests.support.scores import scores
from tests.support.training import (
    EARLY_STOPPING,
    assert_same_weights,
    heldout_nll,
    start,
    train,
    write_config,
)
from trainer.artifacts.checkpoint import checkpoint_steps
from trainer.artifacts.early_stopping import EarlyStopping


def test_a_run_stops_early_and_keeps_its_best(stopped, predictions):
    output = stopped.parent / "student"
    measured = heldout_nll(output)
    last, best = max(measured), min(measured, key=measured.get)
    assert 10 < best < last < 200
    assert last == best + 3 * 10
    assert checkpoint_steps(str(output)) == [best, last]
    exported = json.loads((output / "evaluation.json").read_text())
    assert exported["step"] == best
    assert sum(row["nll"] for row in exported["languages"].values()) / 3 == pytest.approx(measured[best])
    weights = load_file(output / "checkpoints" / f"{best:08d}" / "model.safetensors")
    actual = AutoModelForMaskedLM.from_pretrained(output).state_dict()
    assert all(actual[name].equal(weight) for name, weight in weights.items())
    again = train(stopped)
    assert again.returncode == 0 and "nothing to do" in again.stdout


@pytest.mark.heavy
def test_killed_it_stops_at_the_same_step(stopped, predictions, heldout, tmp_path):
    """The run is asked to end at several steps, which may include the step of an evaluation."""
    config = write_config(tmp_path, predictions, heldout, **EARLY_STOPPING)
    output = tmp_path / "student"
    metrics = output / "metrics.jsonl"
    for evaluations in (1, 3):
        process = start(config)
        wait_until(
            lambda count=evaluations: metrics.exists() and metrics.read_text().count("heldout_sha256") >= count, process
        )
        process.terminate()
        process.communicate(timeout=SECONDS)
        assert process.returncode == 75
    assert train(config).returncode == 0
    assert heldout_nll(output) == heldout_nll(stopped.parent / "student")
    assert_same_weights(stopped.parent / "student", output)
    assert checkpoint_steps(str(output)) == checkpoint_steps(str(stopped.parent / "student"))


def test_more_patience_goes_on(stopped, tmp_path):
    shutil.copytree(stopped.parent / "student", tmp_path / "student")
    settings = yaml.safe_load(stopped.read_text()) | {"output": str(tmp_path / "student"), "early_stopping_patience": 4}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(settings))
    before = max(heldout_nll(tmp_path / "student"))
    assert train(tmp_path / "more.yaml").returncode == 0
    assert max(heldout_nll(tmp_path / "student")) > before


def test_other_heldout_text_is_evaluated_anew(stopped, predictions, tmp_path):
    """Figures on the new text are not compared with those on the former text."""
    shutil.copytree(stopped.parent / "student", tmp_path / "student")
    settings = yaml.safe_load(stopped.read_text()) | {
        "output": str(tmp_path / "student"),
        "heldout": str(predictions),
        "max_steps": 200,
        "export": "last",
        "early_stopping_patience": 1,
    }
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(settings))
    done = train(tmp_path / "other.yaml")
    assert done.returncode == 0, done.stderr
    actual = json.loads((tmp_path / "student" / "evaluation.json").read_text())
    assert actual["heldout_sha256"] == open_predictions(str(predictions)).sha256 and actual["languages"]


def test_an_evaluation_after_the_last_step_is_remembered(stopped, predictions, tmp_path):
    """A finished run is evaluated on other held-out text; its checkpoint records it for the next command."""
    shutil.copytree(stopped.parent / "student", tmp_path / "student")
    settings = yaml.safe_load(stopped.read_text()) | {
        "output": str(tmp_path / "student"),
        "early_stopping_patience": None,
    }
    last = checkpoint_steps(str(tmp_path / "student"))[-1]
    path = tmp_path / "student" / "checkpoints" / f"{last:08d}" / "state.json"
    state = json.loads(path.read_text())
    # As if this had been the last step.
    state["run_spec"]["max_steps"] = last
    path.write_text(json.dumps(state))
    weights = path.with_name("model.safetensors").read_bytes()
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(settings | {"max_steps": last, "heldout": str(predictions)}))
    done = train(tmp_path / "other.yaml")
    assert done.returncode == 0, done.stderr
    state = json.loads(path.read_text())
    assert state["early_stopping"]["best_step"] == state["early_stopping"]["step"] == last
    assert state["early_stopping"]["heldout_sha256"] == open_predictions(str(predictions)).sha256
    assert path.with_name("model.safetensors").read_bytes() == weights
    assert "nothing to do" in train(tmp_path / "other.yaml").stdout


@pytest.mark.parametrize(
    ("measured", "best", "stops"),
    [([3, 2, 1], 3, False), ([1, 2, 3], 1, True), ([2, 1, 1], 2, False), ([float("nan"), 2, 3], 2, False)],
)
def test_the_best_is_the_first_of_the_lowest(measured, best, stops):
    evaluations = EarlyStopping("sha")
    for step, nll in enumerate(measured, 1):
        # The mean counts, not a single language.
        evaluations.add(step, {"a": scores(nll - 1), "b": scores(nll + 1)})
    assert evaluations.best_step == best and evaluations.has_run_out(2) is stops
    assert not evaluations.has_run_out(None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stopping_patience": 2}, "early_stopping_patience counts evaluations"),
        ({"heldout": None, "export": "best"}, "export: best needs evaluations: set heldout"),
    ],
)
def test_what_needs_evaluations_says_so(changes, message, predictions, heldout, tmp_path):
    done = train(write_config(tmp_path, predictions, changes.pop("heldout", heldout), **changes))
    assert done.returncode == 2 and message in done.stderr


def test_an_evaluation_at_a_former_end_does_not_move_when_patience_ends():
    """It may be the best, but it was not planned, so it counts neither for nor against the run's patience."""
    measured = [(10, 3.0), (20, 2.0), (30, 2.5), (33, 1.0), (40, 1.9), (50, 2.2)]
    with_end, without = EarlyStopping("sha"), EarlyStopping("sha")
    for step, nll in measured:
        with_end.add(step, {"a": scores(nll)}, is_planned=step != 33)
        if step != 33:
            without.add(step, {"a": scores(nll)})
        assert [with_end.has_run_out(n) for n in (1, 2)] == [without.has_run_out(n) for n in (1, 2)], step
    assert (with_end.best_step, with_end.best_nll) == (33, 1.0) and without.best_step == 40
