"""The manifest agrees with the files."""

from pipeline.config import PipelineConfig
from pipeline.job.finalize import _hub_models


def test_models_that_are_no_folders_here_come_from_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local" / "bert").mkdir(parents=True)
    mixed_with = [{"model": "org/bert-2", "weight": 0.5}, {"model": "./local/bert", "weight": 0.1}]
    teachers = {
        "a": {"model": "local/bert", "languages": ["en"]},
        "b": {"model": "org/bert", "mixed_with": mixed_with, "languages": ["en"]},
        "c": {"model": "org/bert", "languages": ["en"]},
    }
    config = PipelineConfig(output="o", teachers=teachers, text={"en": ["x"]})
    assert _hub_models(config) == ["org/bert", "org/bert-2"]
