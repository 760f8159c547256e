"""A path means the same everywhere; secrets in URLs are shown nowhere."""

import os

import pytest

import pipeline.drift
import pipeline.trim.__main__
from pipeline.config import PipelineConfig
from pipeline.job.launcher import run_pipeline
from schemas.errors import UserError
from schemas.paths import check_output_folder, path_option
from schemas.storage import filesystem
from trainer.config import TrainerConfig

STUDENT = {"student": {"settings": {"model_type": "bert"}}, "max_steps": 1}


def test_home_is_expanded_and_empty_paths_are_refused(pipeline_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = pipeline_settings("~/p", extends="~/e")
    settings["text"]["en"] = ["~/*.txt"]
    settings["teachers"]["en-wordpiece"]["model"] = "~/model"
    config = PipelineConfig.model_validate(settings)
    actual = [config.output, config.extends, config.text["en"].files[0], config.teachers["en-wordpiece"].model]
    assert actual == [f"{tmp_path}/{name}" for name in ("p", "e", "*.txt", "model")]
    fields = {
        "output": "~/o",
        "predictions": "~/p",
        "heldout": ["~/h"],
        "student": {"architecture_from": "~/l"},
        "max_steps": 1,
    }
    trainer = TrainerConfig.model_validate(fields)
    actual = [trainer.output, *trainer.predictions, *trainer.heldout, trainer.student.architecture_from]
    assert actual == [f"{tmp_path}/{name}" for name in "ophl"]
    assert path_option("~/x", "--to") == f"{tmp_path}/x"
    for empty in ("", " "):
        with pytest.raises(ValueError, match="is empty; give a path"):
            PipelineConfig.model_validate(pipeline_settings(empty))
        with pytest.raises(ValueError, match="is empty; give a path"):
            TrainerConfig.model_validate({**STUDENT, "output": "o", "predictions": empty})
        with pytest.raises(UserError, match="--to: is empty"):
            path_option(empty, "--to")


@pytest.mark.parametrize("name", ["file", "file/below/it", "x" * 300, "/proc/nothing", "/proc"])
def test_an_output_that_cannot_be_is_refused_before_any_work(pipeline_settings, predictions, tmp_path, name):
    from trainer.distributed import start_runtime
    from trainer.loop.train import train

    (tmp_path / "file").write_text("precious")
    output = os.path.join(tmp_path, name)
    config = PipelineConfig.model_validate(pipeline_settings(output))
    with pytest.raises(UserError, match="choose another output"):
        run_pipeline(config, [])
    with pytest.raises(UserError, match="choose another output"):
        fields = {**STUDENT, "output": output, "predictions": str(predictions)}
        train(TrainerConfig.model_validate(fields), start_runtime("float32"))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("name", ["", "file/below", "x" * 230, "/proc/x.json"])
def test_a_report_that_cannot_be_written_is_refused_before_any_work(predictions, text, tmp_path, name, capsys):
    (tmp_path / "file").write_text("precious")
    report = os.path.join(tmp_path, name)
    assert pipeline.trim.__main__.main([str(predictions), "--output", str(tmp_path / "trimmed"), "--json", report]) == 2
    assert pipeline.drift.main([str(predictions), "--text", f"en={text / 'en.txt'}", "--json", report]) == 2
    shown = capsys.readouterr()
    assert [line.startswith("error: ") and "choose another" in line for line in shown.err.splitlines()] == [True] * 2
    assert not shown.out and not (tmp_path / "trimmed").exists()


def test_an_output_with_colons_is_a_folder_of_that_name(tmp_path):
    (tmp_path / "runs").write_text("precious")
    assert filesystem(f"{tmp_path}/runs::1")[1] == f"{tmp_path}/runs::1"
    check_output_folder(f"{tmp_path}/runs::1")
    assert not (tmp_path / "runs::1").exists()
