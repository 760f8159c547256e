"""Exports: what a killed or interrupted export leaves behind, and damaged evaluations."""

import shutil

import pytest
import yaml

from schemas.lock import LOCK_FILE, owning
from schemas.predictions import open_predictions
from tests.support.training import assert_same_weights, train
from trainer.artifacts.checkpoint import checkpoint_steps
from trainer.artifacts.export import export_checkpoint, read_export
from trainer.config import TrainerConfig
from trainer.data.stages import open_stages


def test_what_a_killed_export_left_is_removed_by_the_next(stopped, predictions, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    config = TrainerConfig.model_validate(yaml.safe_load(stopped.read_text()))
    opened, best = open_predictions(str(predictions)), checkpoint_steps(config.output)[0]
    (tmp_path / "to").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", killed)
        # A killed process does not clean up.
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            export_checkpoint(config, opened, open_stages(config, opened), best, None, str(tmp_path / "to"))
    assert len(list((tmp_path / "to").iterdir())) == 1
    with owning(str(tmp_path / "to")):
        assert [path.name for path in (tmp_path / "to").iterdir()] == [LOCK_FILE]


def test_an_export_that_is_cut_short_does_not_look_whole(stopped, predictions, tmp_path, monkeypatch):
    """This holds even over an earlier export, whose tokenizers it may have replaced already."""
    shutil.copytree(stopped.parent / "student", tmp_path / "to", ignore=shutil.ignore_patterns("checkpoints", "logs"))
    config = TrainerConfig.model_validate(yaml.safe_load(stopped.read_text()))
    opened, best = open_predictions(str(predictions)), checkpoint_steps(config.output)[0]
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
                export_checkpoint(config, opened, open_stages(config, opened), best, None, str(tmp_path / "to"))
        is_untouched = cut.endswith("load_weights")
        assert (tmp_path / "to" / "config.json").exists() is is_untouched
        assert (read_export(str(tmp_path / "to")) is not None) is is_untouched
    export_checkpoint(config, opened, open_stages(config, opened), best, None, str(tmp_path / "to"))
    assert_same_weights(stopped.parent / "student", tmp_path / "to")
    assert not list((tmp_path / "to").glob(".*"))


def test_another_model_card_is_written(stopped, tmp_path):
    shutil.copytree(stopped.parent / "student", tmp_path / "student")
    settings = yaml.safe_load(stopped.read_text()) | {"output": str(tmp_path / "student")}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(settings))
    assert "nothing to do" in train(tmp_path / "t.yaml").stdout
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(settings | {"model_card": {"license": "mit"}}))
    assert train(tmp_path / "t.yaml").returncode == 0
    assert "license: mit" in (tmp_path / "student" / "README.md").read_text()
    assert_same_weights(stopped.parent / "student", tmp_path / "student")
    assert "nothing to do" in train(tmp_path / "t.yaml").stdout


def test_a_damaged_evaluation_is_none(tmp_path):
    for content in ("", "{", "[]", '{"step": 1}'):
        (tmp_path / "evaluation.json").write_text(content)
        assert read_export(str(tmp_path)) is None
