"""The configurations' JSON schemas: stored next to the code, up to date, and named by every example."""

import json
import re
from pathlib import Path
from string import Template

import pytest
import yaml
from jsonschema import Draft202012Validator

from examples.demo.__main__ import TEACHERS, TEXTS
from schemas.commands.json_schema import MODELS, main
from tests.support.paths import ROOT

MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
README_CONFIGURATIONS = [
    block
    for block in re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    if re.search("^output:", block, re.MULTILINE)
]


def kept(stage: str) -> Path:
    module, _ = MODELS[stage]
    return ROOT / Path(*module.split(".")).with_suffix(".schema.json")


def filled(path: Path) -> str:
    """An example's text, with the `$` placeholders of the demo's templates filled in."""
    text = path.read_text(encoding="utf-8")
    if path.parent.name != "demo":
        return text
    (name, (language, _, model_type)), (text_name, settings) = next(iter(TEACHERS.items())), next(iter(TEXTS.items()))
    values = {"name": name, "language": language, "model_type": model_type, "text": text_name} | settings
    return Template(text).substitute(values, schema="$schema")


def faults(content: object, schema: dict) -> list[str]:
    return [error.message for error in Draft202012Validator(schema).iter_errors(content)]


@pytest.mark.parametrize("stage", MODELS)
def test_the_kept_schema_is_current(stage, capsys):
    assert main([stage]) == 0
    assert kept(stage).read_text(encoding="utf-8") == capsys.readouterr().out, "run `make docs`"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_example_names_its_schema_and_fits_it(path):
    named = MODELINE.match(path.read_text(encoding="utf-8"))
    assert named, "its first line names no schema"
    schema = (path.parent / named[1]).resolve()
    assert schema in map(kept, MODELS)
    assert faults(yaml.safe_load(filled(path)), json.loads(schema.read_text(encoding="utf-8"))) == []


def test_the_readme_names_them_too():
    assert len(README_CONFIGURATIONS) >= 2
    for block in README_CONFIGURATIONS:
        named = MODELINE.match(block)
        assert named, f"names no schema: {block.splitlines()[0]}"
        schema = json.loads((ROOT / named[1]).read_text(encoding="utf-8"))
        assert faults(yaml.safe_load(block), schema) == []


PIPELINE = {"output": "o", "teachers": {"t": {"model": "m", "languages": ["en"]}}, "text": {"en": ["a"]}}
TRAINER = {"output": "o", "predictions": "p", "student": {"settings": {"model_type": "bert"}}, "max_steps": 1}
EVALUATION = {"output": "o", "models": {"m": {"model": "m"}}, "text": {"en": ["a"]}}


@pytest.mark.parametrize(
    ("stage", "content"),
    [
        ("pipeline", PIPELINE | {"top_p": 3}),
        ("pipeline", PIPELINE | {"top_k": "many"}),
        ("pipeline", PIPELINE | {"text": {"en": {"field": "f"}}}),
        ("pipeline", PIPELINE | {"masking": {"mlm_probability": 1.5}}),
        ("pipeline", PIPELINE | {"teachers": ["routing.yaml"]}),
        ("pipeline", PIPELINE | {"teachers": {"t": {"model": "m", "languages": {"en": 2}}}}),
        ("pipeline", {"output": "o"}),
        ("trainer", TRAINER | {"steps": 3}),
        ("trainer", TRAINER | {"predictions": 3}),
        ("trainer", TRAINER | {"precision": "float8"}),
        ("trainer", TRAINER | {"optimizer": {"betas": [0.9]}}),
        ("evaluation", EVALUATION | {"models": {}}),
        ("evaluation", EVALUATION | {"seeds": "many"}),
    ],
)
def test_it_refuses_what_the_configuration_refuses(stage, content):
    schema = json.loads(kept(stage).read_text(encoding="utf-8"))
    assert faults({"pipeline": PIPELINE, "trainer": TRAINER, "evaluation": EVALUATION}[stage], schema) == []
    assert faults(content, schema)


@pytest.mark.parametrize("stage", MODELS)
def test_short_forms_are_known(stage):
    schema = json.loads(kept(stage).read_text(encoding="utf-8"))
    long_form = {
        "pipeline": PIPELINE | {"text": {"en": {"files": ["a"], "max_records": 3}}},
        "trainer": TRAINER | {"predictions": ["a", "b"], "heldout": "h"},
        "evaluation": EVALUATION | {"tagging": {"en": {"train": ["a", "b"], "test": "c"}}},
    }
    assert faults(long_form[stage], schema) == []


@pytest.mark.parametrize("teachers", ["routing.yaml", {"t": {"model": "m", "languages": {"en": 0.6, "fr": "all"}}}])
def test_forms_of_the_teachers_are_known(teachers):
    schema = json.loads(kept("pipeline").read_text(encoding="utf-8"))
    assert faults(PIPELINE | {"teachers": teachers}, schema) == []


def test_a_stage_that_is_not_installed_is_one_line(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "trainer.config", None)
    assert main(["trainer"]) == 2
    assert "trainer: is not installed here" in capsys.readouterr().err
