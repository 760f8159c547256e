"""A worker on its units: what is there is kept, what fails is set aside, and what is wrong everywhere ends the run."""

import json
import shutil

import pytest

from pipeline.config import PipelineConfig
from pipeline.job import launcher
from pipeline.job.launcher import begin, run_pipeline
from pipeline.job.worker import PredictUnits
from pipeline.shard.process import ShardProcessor
from pipeline.text import corpus as corpus_module
from schemas.errors import UserError
from tests.support.checked import checked
from tests.support.outputs import files

# Each runs the pipeline.
pytestmark = pytest.mark.heavy


def failing(monkeypatch, fails) -> list[str]:
    """Lets the shards for which `fails(shard)` holds fail; gives the paths of all that were tried."""
    tried: list[str] = []
    process = ShardProcessor.process

    def try_it(self, shard, *arguments):
        tried.append(shard.path)
        if fails(shard):
            raise UserError(f"{shard.path} cannot be made")
        return process(self, shard, *arguments)

    monkeypatch.setattr(ShardProcessor, "process", try_it)
    return tried


def test_what_failed_is_tried_again_and_the_rest_is_kept(predictions, pipeline_settings, tmp_path, monkeypatch):
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    bad = "ru/ru-unigram/000001000000.parquet"
    with monkeypatch.context() as patch:
        tried = failing(patch, lambda shard: shard.path == bad)
        with pytest.raises(UserError, match=f"^{bad} cannot be made. What is done is kept"):
            run_pipeline(config, [])
    (failed,) = (tmp_path / "p" / "_failed").rglob("*.json")
    assert json.loads(failed.read_text()) == [f"{bad} cannot be made"]
    assert not (tmp_path / "p" / "_manifest.json").exists() and len(tried) > 10
    with monkeypatch.context() as patch:
        again = failing(patch, lambda shard: False)
        run_pipeline(config, [])
    assert again == [bad]
    shutil.rmtree(tmp_path / "p" / "_failed")
    assert files(tmp_path / "p") == files(predictions)


def test_where_everything_fails_the_run_ends_soon(pipeline_settings, tmp_path, monkeypatch):
    tried = failing(monkeypatch, lambda shard: True)
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p", shard_bytes=512))
    with pytest.raises(UserError, match="cannot be made"):
        run_pipeline(config, [])
    assert len(tried) == 8


def test_a_unit_that_is_begun_again_does_what_is_missing(pipeline_settings, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "_FEWEST_UNITS", 1)
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    prepared = checked(config)
    begin(config, prepared)
    unit = prepared.units[0]
    worker = PredictUnits(config, prepared.run, None).worker()
    made = list(worker.process(unit))
    assert len(made) > 2
    before = files(tmp_path / "p")
    assert list(worker.process(unit)) == []
    # As after a kill: no table yet, one shard that is not there, one that is only half there.
    (tmp_path / "p" / unit.path).unlink()
    shards = sorted((tmp_path / "p" / unit.language).rglob("*.parquet"))
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    assert len(list(worker.process(unit))) == 2
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
