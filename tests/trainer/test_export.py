"""The command that exports any checkpoint."""

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

import trainer.export
from schemas.predictions import open_predictions
from tests.support.commands import call, run
from tests.support.training import assert_same_weights
from trainer.artifacts.checkpoint import checkpoint_steps


@pytest.mark.heavy
def test_export_by_command(stopped, predictions, tmp_path):
    output = stopped.parent / "student"
    best, last = checkpoint_steps(str(output))
    for name, step in [("last", last), ("best", best), (str(last), last)]:
        # The first in a process of its own, as users run it.
        export = run if name == "last" else call
        done = export("trainer.export", stopped, "--checkpoint", name, "--to", tmp_path / name)
        assert done.returncode == 0, done.stderr
        weights = load_file(output / "checkpoints" / f"{step:08d}" / "model.safetensors")
        actual = AutoModelForMaskedLM.from_pretrained(tmp_path / name).state_dict()
        assert all(actual[key].equal(weight) for key, weight in weights.items())
        assert len(AutoTokenizer.from_pretrained(tmp_path / name)) == len(open_predictions(str(predictions)).vocabulary)
    assert_same_weights(output, tmp_path / "best")
    assert (tmp_path / "best" / "evaluation.json").read_text() == (output / "evaluation.json").read_text()
    refused = call("trainer.export", stopped, "--checkpoint", "7", "--to", tmp_path / "none")
    assert refused.returncode == 2 and f"has checkpoints of steps {best}, {last}" in refused.stderr
    assert not (tmp_path / "none").exists()


def test_another_student_is_not_exported(stopped, tmp_path):
    settings = yaml.safe_load(stopped.read_text())
    settings["student"]["settings"]["hidden_size"] = 64
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(settings))
    refused = call("trainer.export", tmp_path / "other.yaml", "--to", tmp_path / "student")
    assert refused.returncode == 2 and "student.settings.hidden_size was 32, now 64" in refused.stderr


def test_a_student_is_not_exported_to_a_url(predictions, tmp_path, capsys):
    (tmp_path / "t.yaml").write_text(
        yaml.safe_dump(
            {
                "student": {"settings": {"model_type": "bert"}},
                "max_steps": 1,
                "output": "o",
                "predictions": str(predictions),
            }
        )
    )
    assert trainer.export.main([str(tmp_path / "t.yaml"), "--to", "gs://bucket/student"]) == 2
    assert "must be a local folder" in capsys.readouterr().err
