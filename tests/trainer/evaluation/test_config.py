"""Configurations that are refused."""

import pytest
from pydantic import ValidationError

from trainer.evaluation.config import EvaluationConfig

SETTINGS = {"output": "out", "models": {"m": {"model": "x"}, "t": {"model": "y"}}, "text": {"en": ["en.txt"]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "gs://bucket/out"}, "must be a local folder"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"seeds": [2**32]}, "less than 4294967296"),
        ({"seeds": [1, 2, 1]}, "has a seed twice"),
        ({"seeds": [True]}, "expected a number, not true"),
        (
            {"models": {"m": {"model": "x", "languages": ["english"]}}},
            r"models\.m\.languages: .* 'english'; the tasks have: en",
        ),
        (
            {"models": {"m": {"model": "x", "teachers": {"eng": "m"}}}},
            r"models\.m\.teachers: .* 'eng'; the tasks have: en",
        ),
        ({"models": {"m": {"model": "x", "teachers": {"en": "gone"}}}}, "there is no model 'gone'"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        EvaluationConfig.model_validate(SETTINGS | changes)


def test_languages_of_any_section_are_known():
    changes = {
        "models": {"m": {"model": "x", "languages": ["en", "fi", "tr"], "teachers": {"de": "m"}}},
        "tagging": {"fi": {"test": "fi.tsv"}},
        "retrieval": {"pair": {"languages": ["de", "tr"], "files": ["de.txt", "tr.txt"]}},
    }
    config = EvaluationConfig.model_validate(SETTINGS | changes)
    assert config.models["m"].is_for("tr")
    # In the order of the sections.
    assert config.languages == ["en", "fi", "de", "tr"]


@pytest.mark.parametrize("text", ["en.txt", ["en.txt"], {"files": "en.txt"}])
def test_one_file_needs_no_list(text):
    assert EvaluationConfig.model_validate(SETTINGS | {"text": {"en": text}}).text["en"].files == ["en.txt"]
