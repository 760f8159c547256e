"""A repeated call checks everything that has changed, and nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml

from pipeline.config import PipelineConfig
from pipeline.job import launcher
from pipeline.job.launcher import dry_run, run_pipeline
from schemas.errors import UserError
from tests.support.outputs import files
from tests.support.paths import ROOT

# Each test runs the pipeline.
pytestmark = pytest.mark.heavy

# The slow parts of a start, and where each can be patched.
CHECKS = {
    "models": "pipeline.job.fingerprint.load_model",
    "tokenizers": "pipeline.job.prepare.load_tokenizer",
    "survey": "pipeline.job.prepare.survey_text",
    "sample": "pipeline.job.prepare.check_sample",
    "listings": "pipeline.job.launcher.write_corpus",
}


@pytest.fixture
def folder(predictions, tmp_path) -> Path:
    """A finished run."""
    return Path(shutil.copytree(predictions, tmp_path / "p"))


@pytest.fixture
def calls(monkeypatch) -> dict[str, int]:
    """How often each check was made."""
    counts = dict.fromkeys(CHECKS, 0)
    for name, where in CHECKS.items():
        module, _, attribute = where.rpartition(".")
        original = getattr(sys.modules[module], attribute)

        def count(*arguments, name=name, original=original):
            counts[name] += 1
            return original(*arguments)

        monkeypatch.setattr(where, count)
    return counts


def configuration(settings: dict) -> PipelineConfig:
    return PipelineConfig.model_validate(settings)


def test_a_finished_run_called_again_checks_nothing_and_writes_nothing(folder, pipeline_settings, predictions, calls):
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with patch.object(launcher, "list_output", wraps=launcher.list_output) as listing:
        manifest = run_pipeline(configuration(pipeline_settings(folder)), [])
    assert not any(calls.values()) and listing.call_count == 1
    assert manifest.model_dump_json(indent=2) + "\n" == (predictions / "_manifest.json").read_text()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == times


def test_it_needs_no_model(folder, pipeline_settings):
    """The process can load neither weights nor a teacher's tokenizer."""
    (folder.parent / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(folder), sort_keys=False))
    code = f"""
import safetensors
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

def fail(*arguments, **named):
    raise AssertionError("something was loaded")

for loader in (AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast):
    loader.from_pretrained = fail
safetensors.safe_open = fail
from pipeline.__main__ import main
raise SystemExit(main([{str(folder.parent / "c.yaml")!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0 and "merged tokens" in done.stdout, done.stderr


def test_a_run_goes_on_without_checks(folder, pipeline_settings, predictions, calls):
    (folder / "_manifest.json").unlink()
    (folder / "_units" / "hi" / "hi-bpe" / "000001.arrow").unlink()
    (folder / "hi" / "hi-bpe" / "000001000000.parquet").unlink()
    run_pipeline(configuration(pipeline_settings(folder)), [])
    assert not any(calls.values()) and files(folder) == files(predictions)


def test_a_dry_run_checks_everything(folder, pipeline_settings, calls):
    dry_run(configuration(pipeline_settings(folder)), [])
    assert calls == {"models": 3, "tokenizers": 3, "survey": 1, "sample": 3, "listings": 0}


@pytest.mark.parametrize("lost", ["_vocabulary.parquet", "_text/en.parquet", "_checked"])
def test_what_is_lost_is_checked_and_written_again(lost, folder, pipeline_settings, predictions, calls):
    if lost == "_checked":
        shutil.rmtree(folder / lost)
    else:
        (folder / lost).write_bytes(b"PAR1")
    run_pipeline(configuration(pipeline_settings(folder)), [])
    assert calls["models"] == 3 and files(folder) == files(predictions)


def test_another_teacher_in_its_place_is_refused(pipeline_settings, teachers, run_pipeline, tmp_path):
    """It has the same name and size; only its file's time differs."""
    shutil.copytree(teachers, tmp_path / "teachers")
    settings = pipeline_settings(tmp_path / "p")["teachers"]
    for name, teacher in settings.items():
        teacher["model"] = str(tmp_path / "teachers" / name)
    run_pipeline(tmp_path / "p", teachers=settings)
    weights = tmp_path / "teachers" / "hi-bpe" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + bytes(4))
    with pytest.raises(UserError, match=r"holds another run \(teachers.hi-bpe.fingerprint was '"):
        run_pipeline(tmp_path / "p", teachers=settings)
    weights.write_bytes(content)
    run_pipeline(tmp_path / "p", teachers=settings)


def test_another_text_in_its_place_is_refused(pipeline_settings, text, run_pipeline, tmp_path):
    shutil.copytree(text, tmp_path / "text")
    settings = {language: [str(tmp_path / "text" / f"{language}.txt")] for language in ("en", "ru", "hi")}
    run_pipeline(tmp_path / "p", text=settings)
    path = tmp_path / "text" / "hi.txt"
    content = path.read_bytes()
    path.write_bytes(content[::-1])
    with pytest.raises(UserError, match="looks like"):
        run_pipeline(tmp_path / "p", text=settings)
    path.write_bytes(b"\n".join(content.split(b"\n")[:-1][::-1]) + b"\n")
    with pytest.raises(UserError, match=r"holds another run \(text.hi.content was"):
        run_pipeline(tmp_path / "p", text=settings)


def test_a_lower_limit_of_rejects_is_checked(folder, pipeline_settings, calls):
    run_pipeline(configuration(pipeline_settings(folder, max_rejected=0.9)), [])
    assert calls["sample"] == 3


def test_notes_of_another_run_are_not_believed(folder, pipeline_settings, calls):
    run = json.loads((folder / "_run.json").read_text())
    run["teachers"]["hi-bpe"]["fingerprint"] = "0" * 64
    (folder / "_run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match=r"holds another run \(teachers.hi-bpe.fingerprint"):
        run_pipeline(configuration(pipeline_settings(folder)), [])
    assert calls["models"] == 3


def test_what_takes_longest_is_checked_last(pipeline_settings, teachers, tmp_path, calls):
    """First the beginnings of the text, then the models, then all of the text."""
    settings = pipeline_settings(tmp_path / "p")
    broken = shutil.copytree(teachers / "hi-bpe", tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    settings["teachers"]["hi-bpe"]["model"] = str(broken)
    with pytest.raises(UserError, match="its model cannot be loaded"):
        run_pipeline(configuration(settings), [])
    assert calls["models"] == 3 and calls["survey"] == 0
    (tmp_path / "bad.txt").write_text("the river\n" * 20, "utf-16")
    settings["text"]["hi"] = [str(tmp_path / "bad.txt")]
    with pytest.raises(UserError, match="looks like UTF-16"):
        run_pipeline(configuration(settings), [])
    assert calls["models"] == 3 and calls["sample"] == 3


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({"device": "meta"}, [], "^teachers.ru-unigram.device: 'meta' cannot be used: "),
        ({"device": "gpu"}, [], "^teachers.ru-unigram.device: 'gpu' is no device: "),
        ({"device": "gpu"}, ["--direct_running_mode=multi_processing"], "device: 'gpu' is no device: "),
        ({"torch_compile": True}, [], "torch_compile needs a compiler on cpu"),
    ],
)
def test_devices_of_all_teachers_are_tried_before_any_work(
    pipeline_settings, tmp_path, calls, monkeypatch, fields, arguments, message
):
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr("shutil.which", lambda name: None)
    settings = pipeline_settings(tmp_path / "p")
    settings["teachers"]["ru-unigram"] |= {"device": "cpu"} | fields
    for command in (run_pipeline, dry_run):
        with pytest.raises(UserError, match=message):
            command(configuration(settings), arguments)
    if not arguments:
        with pytest.raises(UserError, match=message):
            launcher.run_part(configuration(settings), 1, 2)
    assert not any(calls.values())


def test_devices_are_tried_again_before_a_run_goes_on(folder, pipeline_settings, calls):
    manifest = json.loads((folder / "_manifest.json").read_text())
    settings = pipeline_settings(folder)
    settings["teachers"]["ru-unigram"]["device"] = "meta"
    assert run_pipeline(configuration(settings), []).model_dump(mode="json")["run_sha256"] == manifest["run_sha256"]
    shutil.rmtree(folder / "_units")
    with pytest.raises(UserError, match=r"^teachers.ru-unigram.device: 'meta' cannot be used: "):
        run_pipeline(configuration(settings), [])
    assert not any(calls.values())


def test_the_precision_is_tried_before_any_work(pipeline_settings, tmp_path, calls, monkeypatch):
    monkeypatch.setattr("pipeline.teachers.predictor.choose_dtype", lambda dtype, device: torch.float8_e4m3fn)
    with pytest.raises(UserError, match="does not run in float8_e4m3fn on cpu"):
        run_pipeline(configuration(pipeline_settings(tmp_path / "p")), [])
    assert calls["models"] == 1 and calls["survey"] == 0
