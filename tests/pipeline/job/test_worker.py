"""A worker keeps existing shards, sets failed shards aside, and ends the run if everything fails."""

import json
import shutil

import pytest

from pipeline.config import PipelineConfig
from pipeline.job import launcher
from pipeline.job.launcher import begin, run_pipeline
from pipeline.job.worker import PredictUnits, WorkerProcess
from pipeline.shard.process import ShardProcessor
from pipeline.text import corpus as corpus_module
from pipeline.text.units import Unit
from schemas.errors import UserError
from schemas.manifest import read_manifest
from schemas.predictions import open_predictions
from tests.support.checked import checked
from tests.support.outputs import files

# Each test runs the pipeline.
pytestmark = pytest.mark.heavy


def failing(monkeypatch, fails, error: Exception | None = None) -> list[str]:
    """Makes the shards for which `fails(shard)` holds fail; returns the paths of all shards that were tried."""
    tried: list[str] = []
    process = ShardProcessor.process

    def try_it(self, shard, *arguments):
        tried.append(shard.path)
        if fails(shard):
            raise error or UserError("no such luck")
        return process(self, shard, *arguments)

    monkeypatch.setattr(ShardProcessor, "process", try_it)
    return tried


BAD = "ru/ru-unigram/000001000000.parquet"


def test_what_failed_is_tried_again_and_the_rest_is_kept(predictions, pipeline_settings, tmp_path, monkeypatch):
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    with monkeypatch.context() as patch:
        tried = failing(patch, lambda shard: shard.path == BAD)
        with pytest.raises(UserError, match=f"^1 shard failed: {BAD}: no such luck. Finished work is kept"):
            run_pipeline(config, [])
    failed = next((tmp_path / "p" / "_failed").rglob("*.json"))
    assert json.loads(failed.read_text()) == {BAD: "no such luck"}
    assert not (tmp_path / "p" / "_manifest.json").exists() and len(tried) > 10 and tried.count(BAD) == 2
    with monkeypatch.context() as patch:
        again = failing(patch, lambda shard: False)
        run_pipeline(config, [])
    assert again == [BAD]
    assert not [path for path in (tmp_path / "p" / "_failed").rglob("*") if path.is_file()]
    shutil.rmtree(tmp_path / "p" / "_failed")
    assert files(tmp_path / "p") == files(predictions)


def test_a_shard_that_fails_once_is_made(predictions, pipeline_settings, tmp_path, monkeypatch):
    """This holds for any error: an intermittent bug of a library must not fail the run."""
    seen: list[str] = []

    def once(shard) -> bool:
        seen.append(shard.path)
        return shard.path == BAD and seen.count(BAD) == 1

    failing(monkeypatch, once, RuntimeError("of a library"))
    run_pipeline(PipelineConfig.model_validate(pipeline_settings(tmp_path / "p")), [])
    assert files(tmp_path / "p") == files(predictions)


def test_shards_that_fail_are_left_out_where_that_is_allowed(predictions, pipeline_settings, tmp_path, monkeypatch):
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p", max_failed=1))
    with monkeypatch.context() as patch:
        failing(patch, lambda shard: shard.path == BAD, RuntimeError("of a library"))
        manifest = run_pipeline(config, [])
    assert {record.language: record.failed for record in manifest.languages} == {"en": 0, "hi": 0, "ru": 1}
    assert open_predictions(str(tmp_path / "p")).language_names == ["en", "hi", "ru"]
    whole = {file.path for file in read_manifest(str(predictions)).files}
    assert {file.path for file in read_manifest(str(tmp_path / "p")).files} == whole - {BAD}
    run_pipeline(config, [])
    shutil.rmtree(tmp_path / "p" / "_failed")
    assert files(tmp_path / "p") == files(predictions)


def test_where_everything_fails_the_run_ends_soon(pipeline_settings, tmp_path, monkeypatch):
    tried = failing(monkeypatch, lambda shard: True)
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p", shard_bytes=512))
    with pytest.raises(UserError, match=r"^24 shards failed: .*; [0-9]+ of [0-9]+ units of work are not done"):
        run_pipeline(config, [])
    assert len(tried) == 2 * 8 * 3


def test_a_teacher_that_fails_holds_up_no_other(pipeline_settings, tmp_path, monkeypatch):
    failing(monkeypatch, lambda shard: shard.language == "ru")
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p", shard_bytes=512))
    with pytest.raises(UserError, match="^8 shards failed: ru/"):
        run_pipeline(config, [])
    units = checked(config).units
    done = {path.relative_to(tmp_path / "p").as_posix() for path in (tmp_path / "p" / "_units").rglob("*.arrow")}
    assert done == {unit.path for unit in units if unit.language != "ru"}


def begin_one_unit(settings: dict, monkeypatch: pytest.MonkeyPatch) -> tuple[Unit, WorkerProcess]:
    """Begins a run with one unit per language. Returns the first unit and a worker."""
    monkeypatch.setattr(corpus_module, "_FEWEST_UNITS", 1)
    config = PipelineConfig.model_validate(settings)
    prepared = checked(config)
    begin(config, prepared)
    return prepared.units[0], PredictUnits(config, prepared.run, None).worker()


def test_a_unit_that_is_begun_again_does_what_is_missing(pipeline_settings, tmp_path, monkeypatch):
    unit, worker = begin_one_unit(pipeline_settings(tmp_path / "p"), monkeypatch)
    made = list(worker.process(unit))
    assert len(made) > 2
    before = files(tmp_path / "p")
    assert list(worker.process(unit)) == []
    # As after a kill: no table yet, one shard missing, one incomplete.
    (tmp_path / "p" / unit.path).unlink()
    shards = sorted((tmp_path / "p" / unit.language).rglob("*.parquet"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    assert len(list(worker.process(unit))) == 2
    assert files(tmp_path / "p") == before


def test_failures_of_other_units_cut_no_unit_short(pipeline_settings, tmp_path, monkeypatch):
    """Threads that work on other units count their failures at the same time."""
    unit, worker = begin_one_unit(pipeline_settings(tmp_path / "p"), monkeypatch)
    list(worker.process(unit))
    before = files(tmp_path / "p")
    (tmp_path / "p" / unit.path).unlink()
    find = worker._find

    def fail_elsewhere(shard):
        worker._failed_in_a_row[unit.teacher] += 8
        return find(shard)

    monkeypatch.setattr(worker, "_find", fail_elsewhere)
    list(worker.process(unit))
    assert files(tmp_path / "p") == before


def test_a_file_that_is_replaced_during_the_run_is_named(pipeline_settings, text, tmp_path, monkeypatch):
    shutil.copytree(text, tmp_path / "text")
    settings = pipeline_settings(tmp_path / "p")
    settings["text"] = {name: [str(tmp_path / "text" / f"{name}.txt")] for name in settings["text"]}
    process = launcher.process

    def replace_and_process(*arguments):
        path = tmp_path / "text" / "hi.txt"
        path.write_bytes(path.read_bytes()[::-1])
        process(*arguments)

    monkeypatch.setattr(launcher, "process", replace_and_process)
    with pytest.raises(UserError, match="hi.txt: changed since the run began; start again with a new output"):
        run_pipeline(PipelineConfig.model_validate(settings), [])
    done = {path.parts[-3] for path in (tmp_path / "p" / "_units").rglob("*.arrow")}
    assert done == {"en", "ru"}
