"""The routing as YAML. tests/system/test_routing.py tests that the pipeline accepts it."""

import yaml

from tests.support.candidates import measured
from trainer.evaluation.comparison.ranking import rank
from trainer.evaluation.comparison.routing import routing
from trainer.evaluation.config import ModelConfig

MODELS = {
    "mbert": ModelConfig(model="google-bert/bert-base-multilingual-cased", revision="main"),
    "gbert": ModelConfig(model="deepset/gbert-base", trust_remote_code=True),
    "other": ModelConfig(model="./folder with: odd #name"),
}


def test_teachers_are_those_chosen_in_the_order_of_the_models():
    rankings = [
        rank("de", [measured("mbert", 0.2), measured("gbert")], 100),
        rank("fr", [measured("mbert"), measured("gbert", 0.2)], 100),
        rank("it", [measured("mbert"), measured("gbert", 0.2)], 100),
    ]
    assert yaml.safe_load(routing(rankings, MODELS)) == {
        "mbert": {"model": "google-bert/bert-base-multilingual-cased", "revision": "main", "languages": ["fr", "it"]},
        "gbert": {"model": "deepset/gbert-base", "trust_remote_code": True, "languages": ["de"]},
    }
    assert list(yaml.safe_load(routing(rankings, MODELS))) == ["mbert", "gbert"]


def test_comments_say_why_and_where_nothing_is_clear():
    rankings = [
        rank("de", [measured("mbert"), measured("gbert")], 100),
        rank("fr", [measured("mbert", 0.2), measured("gbert")], 100),
    ]
    text = routing(rankings, MODELS)
    comments = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    assert "de: no clear difference from gbert: +0.000" in comments
    assert "taken because it comes first in the configuration." in comments
    assert "bits per character better than mbert." in comments


def test_a_language_that_nobody_reads_has_no_teacher():
    rankings = [rank("de", [measured("other", unknown=1.0)], 100), rank("fr", [measured("other")], 100)]
    text = routing(rankings, MODELS)
    assert yaml.safe_load(text) == {"other": {"model": "./folder with: odd #name", "languages": ["fr"]}}
    assert "# de: no candidate reads it." in text.splitlines()
