"""The pipeline accepts the routing that a comparison of teachers writes."""

import pytest
import yaml

from pipeline.config import PipelineConfig
from schemas.config import load_config
from tests.support.candidates import measured
from trainer.evaluation.comparison.ranking import rank
from trainer.evaluation.comparison.routing import routing
from trainer.evaluation.config import ModelConfig


@pytest.mark.parametrize("is_inline", [True, False])
def test_the_pipeline_takes_the_routing_as_its_teachers(tmp_path, is_inline):
    models = {
        "mbert": ModelConfig(model="google-bert/bert-base-multilingual-cased", revision="main"),
        "gbert": ModelConfig(model="./a folder: #1", trust_remote_code=True),
        "unused": ModelConfig(model="x"),
    }
    rankings = [
        rank("de", [measured("mbert", 0.2), measured("gbert"), measured("unused", 0.4)], 100),
        rank("fr", [measured("mbert"), measured("gbert"), measured("unused", 0.1)], 100),
        rank("no", [measured("mbert"), measured("gbert", 0.2), measured("unused", 0.1)], 100),
    ]
    written = routing(rankings, models)
    (tmp_path / "routing.yaml").write_text(written, encoding="utf-8")
    rest = {"output": "o", "text": {language: ["x.txt"] for language in ("de", "fr", "no")}}
    path = tmp_path / "predictions.yaml"
    path.write_text(
        yaml.safe_dump(rest | {"teachers": yaml.safe_load(written) if is_inline else "routing.yaml"}, sort_keys=False)
    )
    config = load_config(str(path), PipelineConfig)
    assert list(config.teachers) == ["mbert", "gbert"]
    assert {name: list(teacher.languages) for name, teacher in config.teachers.items()} == {
        "mbert": ["fr", "no"], "gbert": ["de"]
    }  # fmt: skip
    for name, teacher in config.teachers.items():
        assert (teacher.model, teacher.revision, teacher.trust_remote_code) == (
            models[name].model, models[name].revision, models[name].trust_remote_code
        )  # fmt: skip
