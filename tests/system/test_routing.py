"""What a comparison of teachers writes is what the pipeline takes."""

import yaml

from pipeline.config import PipelineConfig
from tests.support.candidates import measured
from trainer.evaluation.comparison.ranking import rank
from trainer.evaluation.comparison.routing import routing
from trainer.evaluation.config import ModelConfig


def test_the_pipeline_takes_the_routing_as_its_teachers():
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
    config = PipelineConfig.model_validate(
        {
            "output": "o",
            "teachers": yaml.safe_load(routing(rankings, models)),
            "text": {language: ["x.txt"] for language in ("de", "fr", "no")},
        }
    )
    assert list(config.teachers) == ["mbert", "gbert"]
    assert {name: list(teacher.languages) for name, teacher in config.teachers.items()} == {
        "mbert": ["fr", "no"], "gbert": ["de"]
    }  # fmt: skip
    for name, teacher in config.teachers.items():
        assert (teacher.model, teacher.revision, teacher.trust_remote_code) == (
            models[name].model, models[name].revision, models[name].trust_remote_code
        )  # fmt: skip
