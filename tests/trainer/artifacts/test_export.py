"""The best evaluation: kept, stopped at, exported; and any other checkpoint, by command."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from schemas.lock import LOCK_FILE, owning
from schemas.manifest import open_predictions
from tests.support.commands import SECONDS, call, run, wait_until
from tests.support.scores import scores
from tests.support.training import assert_same_weights, heldout_nll, start, train, write_config
from trainer.artifacts.checkpoint import checkpoint_steps
from trainer.artifacts.early_stopping import EarlyStopping
from trainer.artifacts.export import export_checkpoint, read_evaluation
from trainer.config import TrainerConfig

# A rate that soon makes it worse again, so that the best is neither the first nor the last.
CHANGES = {
    "max_steps": 200,
    "optimizer": {"learning_rate": 0.05, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 60},
    "eval_steps": 10,
    "early_stopping_patience": 3,
    "export": "best",
    "save_steps": 35,
    "save_total_limit": 1,
}


@pytest.fixture(scope="module")
def stopped(predictions, heldout, tmp_path_factory) -> Path:
    """The configuration of a run that stopped early."""
    config = write_config(tmp_path_factory.mktemp("stopped"), predictions, heldout, **CHANGES)
    done = train(config)
    assert done.returncode == 0, done.stderr
    return config


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
    found = AutoModelForMaskedLM.from_pretrained(output).state_dict()
    assert all(found[name].equal(weight) for name, weight in weights.items())
    again = train(stopped)
    assert again.returncode == 0 and "nothing to do" in again.stdout


@pytest.mark.heavy
def test_killed_it_stops_at_the_same_step(stopped, predictions, heldout, tmp_path):
    """Asked to end at several steps, one of which may be an evaluation's."""
    config = write_config(tmp_path, predictions, heldout, **CHANGES)
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


@pytest.mark.heavy
def test_export_by_command(stopped, predictions, tmp_path):
    output = stopped.parent / "student"
    best, last = checkpoint_steps(str(output))
    for name, step in [("last", last), ("best", best), (str(last), last)]:
        # The first as users run it.
        export = run if name == "last" else call
        done = export("trainer.export", stopped, "--checkpoint", name, "--to", tmp_path / name)
        assert done.returncode == 0, done.stderr
        weights = load_file(output / "checkpoints" / f"{step:08d}" / "model.safetensors")
        found = AutoModelForMaskedLM.from_pretrained(tmp_path / name).state_dict()
        assert all(found[key].equal(weight) for key, weight in weights.items())
        assert len(AutoTokenizer.from_pretrained(tmp_path / name)) == len(open_predictions(str(predictions)).vocabulary)
    assert_same_weights(output, tmp_path / "best")
    assert (tmp_path / "best" / "evaluation.json").read_text() == (output / "evaluation.json").read_text()
    refused = call("trainer.export", stopped, "--checkpoint", "7", "--to", tmp_path / "none")
    assert refused.returncode == 2 and f"has those of steps {best}, {last}" in refused.stderr
    assert not (tmp_path / "none").exists()


def test_another_student_is_not_exported(stopped, tmp_path):
    settings = yaml.safe_load(stopped.read_text())
    settings["student"]["settings"]["hidden_size"] = 64
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(settings))
    refused = call("trainer.export", tmp_path / "other.yaml", "--to", tmp_path / "student")
    assert refused.returncode == 2 and "student.settings.hidden_size was 32, now 64" in refused.stderr


def test_the_model_card(stopped, predictions):
    output = stopped.parent / "student"
    _, front, body = (output / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["language"] == ["en", "hi", "ru"]
    opened = open_predictions(str(predictions))
    for name, teacher in opened.manifests[0].teachers.items():
        assert f"| {name} | {teacher.model} |" in body
    for language in opened.language_names:
        rows = sum(file.record.rows for file in opened.files if file.record.language == language)
        assert f"| {language} | {opened.teacher_of(language)} | {rows:,} |" in body
    for language, row in json.loads((output / "evaluation.json").read_text())["languages"].items():
        assert f"| {language} | {row['accuracy']:.3f} | {row['nll']:.3f} |" in body
    settings = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert settings["optimizer"]["learning_rate"] == 0.05 and "output" not in settings


def test_other_heldout_text_is_evaluated_anew(stopped, predictions, tmp_path):
    """Its figures are not compared with those on the former text."""
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
    found = json.loads((tmp_path / "student" / "evaluation.json").read_text())
    assert found["heldout_sha256"] == open_predictions(str(predictions)).sha256 and found["languages"]


def test_an_evaluation_after_the_last_step_is_remembered(stopped, predictions, tmp_path):
    """Of a finished run, on other held-out text: its checkpoint says so, and the next command knows the best."""
    shutil.copytree(stopped.parent / "student", tmp_path / "student")
    settings = yaml.safe_load(stopped.read_text()) | {
        "output": str(tmp_path / "student"),
        "early_stopping_patience": None,
    }
    last = checkpoint_steps(str(tmp_path / "student"))[-1]
    path = tmp_path / "student" / "checkpoints" / f"{last:08d}" / "state.json"
    state = json.loads(path.read_text())
    # As if it had been the last step.
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
        # The mean counts, not one language.
        evaluations.add(step, {"a": scores(nll - 1), "b": scores(nll + 1)})
    assert evaluations.best_step == best and evaluations.has_run_out(2) is stops
    assert not evaluations.has_run_out(None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stopping_patience": 2}, "early_stopping_patience counts evaluations"),
        ({"heldout": None, "export": "best"}, "export: best needs heldout"),
    ],
)
def test_what_needs_evaluations_says_so(changes, message, predictions, heldout, tmp_path):
    done = train(write_config(tmp_path, predictions, changes.pop("heldout", heldout), **changes))
    assert done.returncode == 2 and message in done.stderr


def test_what_a_killed_export_left_is_removed_by_the_next(stopped, predictions, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    config = TrainerConfig.model_validate(yaml.safe_load(stopped.read_text()))
    best = checkpoint_steps(config.output)[0]
    (tmp_path / "to").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", killed)
        # A killed process does not clean up either.
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            export_checkpoint(config, open_predictions(str(predictions)), best, None, str(tmp_path / "to"))
    assert len(list((tmp_path / "to").iterdir())) == 1
    with owning(str(tmp_path / "to")):
        assert [path.name for path in (tmp_path / "to").iterdir()] == [LOCK_FILE]


def test_an_export_that_is_cut_short_does_not_look_whole(stopped, predictions, tmp_path, monkeypatch):
    """Also over an earlier one, whose tokenizers it may have replaced."""
    shutil.copytree(stopped.parent / "student", tmp_path / "to", ignore=shutil.ignore_patterns("checkpoints", "logs"))
    config = TrainerConfig.model_validate(yaml.safe_load(stopped.read_text()))
    best = checkpoint_steps(config.output)[0]
    for cut in (
        "trainer.artifacts.export.load_weights",
        "trainer.artifacts.export._copy",
        "trainer.artifacts.export.model_card",
    ):
        with monkeypatch.context() as patch:

            def fail(*_):
                raise KeyboardInterrupt

            patch.setattr(cut, fail)
            with pytest.raises(KeyboardInterrupt):
                export_checkpoint(config, open_predictions(str(predictions)), best, None, str(tmp_path / "to"))
        is_untouched = cut.endswith("load_weights")
        assert (tmp_path / "to" / "config.json").exists() is is_untouched
        assert (read_evaluation(str(tmp_path / "to")) is not None) is is_untouched
    export_checkpoint(config, open_predictions(str(predictions)), best, None, str(tmp_path / "to"))
    assert_same_weights(stopped.parent / "student", tmp_path / "to")
    assert not list((tmp_path / "to").glob(".*"))


def test_a_damaged_evaluation_is_none(tmp_path):
    for content in ("", "{", "[]", '{"step": 1}'):
        (tmp_path / "evaluation.json").write_text(content)
        assert read_evaluation(str(tmp_path)) is None
