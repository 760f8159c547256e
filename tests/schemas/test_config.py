"""Configurations and command lines: one clear line and exit code 2 for what is wrong, before any work."""

import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pipeline.config import PipelineConfig
from schemas.config import describe_fields, load_config, nested_config
from schemas.errors import UserError, differences
from tests.support import world
from tests.support.paths import ROOT
from trainer.config import TrainerConfig

CONFIGS = [
    (PipelineConfig, "examples/demo/predictions.yaml"),
    (PipelineConfig, "examples/demo/heldout.yaml"),
    (PipelineConfig, "examples/hub/predictions.yaml"),
    (PipelineConfig, "examples/hub/heldout.yaml"),
    (TrainerConfig, "examples/demo/student.yaml"),
    (TrainerConfig, "examples/demo/mlm-only.yaml"),
    (TrainerConfig, "examples/hub/student.yaml"),
]


def run(stage: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", stage, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip


@pytest.mark.parametrize(("model", "path"), CONFIGS)
def test_examples_are_valid(model, path):
    load_config(str(ROOT / path), model)


def test_the_two_students_of_the_demo_differ_in_lambda_alone():
    kd, mlm = (
        yaml.safe_load((ROOT / "examples/demo" / name).read_text()) for name in ("student.yaml", "mlm-only.yaml")
    )
    assert mlm.pop("distillation") == {"kd_weight": 0} and kd.pop("distillation")["kd_weight"] > 0
    assert mlm.pop("output") != kd.pop("output")
    assert kd == mlm


def fields(model: type[BaseModel], prefix: str = ""):
    for name, field in model.model_fields.items():
        yield prefix + name, field
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from fields(inner, f"{prefix}{name}.")


@pytest.mark.parametrize(("stage", "model"), [("pipeline", PipelineConfig), ("trainer", TrainerConfig)])
def test_help_documents_every_field(stage, model):
    shown = run(stage, "--help")
    assert shown.returncode == 0
    for name, field in fields(model):
        section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert f"{name.split('.')[-1]}  (" in shown.stdout
        assert field.description or section, f"{name} has no description"
    assert "default 0.15" in describe_fields(PipelineConfig)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("output: [", r":1: not valid YAML"),
        ("just text", "expected `field: value`"),
        ("output: a\ntop_k: 4\noutput: b", ":3: output: given twice"),
        (
            "output: a\nteachers: {t: {model: m, languages: [en]}}\ntext: {en: []}",
            ":3: text.en.files: List should have at least 1",
        ),
        ("output: a\nspeed: 9", ":2: speed: unknown field"),
        ("output: a\nteachers:\n  t:\n    model: m", ":3: teachers.t.languages: Field required"),
        (
            "output: a\ntop_k: many\nteachers: {t: {model: m, languages: [en]}}\ntext: {en: [a]}",
            ":2: top_k: Input should be a valid integer",
        ),
        (
            "output: a\nteachers: {t: {model: m, languages: [xx]}}\ntext: {en: [a.txt]}",
            "teacher 't' names the unknown language 'xx'; `text` has: en",
        ),
        (
            "output: a\nteachers: {t: {model: m, languages: [en]}}\ntext: {en: [a], fr: [b]}",
            "no teacher names the language 'fr'",
        ),
        (
            "output: a\nteachers: {t: {model: m, languages: [en]}}\ntext: {en: [a]}\nmasking: {mask_replace_prob: 0.9, random_replace_prob: 0.2}",
            ":4: masking: mask_replace_prob [+] random_replace_prob is 1.1",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_config(str(path), PipelineConfig)


def sections(model, path=()):
    """Every section of a configuration: the fields that lead there, and its class."""
    yield path, model
    for name, field in model.model_fields.items():
        if section := nested_config(field.annotation):
            key = ("x",) if typing.get_origin(field.annotation) is dict else ()
            yield from sections(section, (*path, name, *key))


@pytest.mark.parametrize("model", [PipelineConfig, TrainerConfig])
def test_a_field_of_a_former_name_is_told_the_new_one(model, tmp_path):
    tried = 0
    for path, section in sections(model):
        for old, new in section.former_names.items():
            assert old not in section.model_fields and new in section.model_fields
            settings = {old: 1}
            for name in reversed(path):
                settings = {name: settings}
            (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
            with pytest.raises(UserError, match=f"c.yaml:{len(path) + 1}: .*{old}: is called `{new}` now"):
                load_config(str(tmp_path / "c.yaml"), model)
            tried += 1
    assert tried >= 6


def _mask_less_teacher(folder: Path) -> str:
    tokenizer = world.make_tokenizer("wordpiece", world.sentences("en", 50))
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder / "maskless")
    return str(folder / "maskless")


CASES = {
    "missing file": (lambda s, tmp: s["text"].update(en=["no/such.txt"]), "text.en: no file matches 'no/such.txt'"),
    "unknown language": (lambda s, tmp: s["teachers"]["hi-bpe"]["languages"].append("xx"), "unknown language 'xx'"),
    "no mask token": (
        lambda s, tmp: s["teachers"]["en-wordpiece"].update(model=_mask_less_teacher(tmp)),
        "no mask token",
    ),
    "k too large": (lambda s, tmp: s.update(top_k=100000), "top_k is 100000, but its vocabulary has"),
    "too long": (lambda s, tmp: s.update(max_length=500), "max_length is 500, but it reads at most"),
    "no such teacher": (lambda s, tmp: s["teachers"]["hi-bpe"].update(model="./nowhere"), "tokenizer cannot be loaded"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_pipelines_stop_at_once(case, pipeline_settings, tmp_path):
    change, message = CASES[case]
    settings = pipeline_settings(tmp_path / "out")
    change(settings, tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    done = run("pipeline", str(tmp_path / "c.yaml"))
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictions": "no/such"}, "no/such/_manifest.json: not found"),
        ({"sampling": {"languages": ["xx"]}}, "unknown language 'xx'"),
        ({"student": {"settings": {"model_type": "no-such"}}}, "no-such"),
        (
            {"student": {"settings": {"model_type": "bert", "width": 3}}},
            "student.settings.width: a bert configuration has no such field",
        ),
        ({"student": {"settings": {"model_type": "bert", "max_position_embeddings": 8}}}, "give it at least"),
        ({"student": {}}, "give `architecture_from`"),
    ],
)
def test_bad_trainers_stop_at_once(changes, message, predictions, tmp_path):
    from tests.system.test_training import write_config

    folder = changes.get("predictions", predictions)
    others = {key: value for key, value in changes.items() if key != "predictions"}
    done = run("trainer", str(write_config(tmp_path, folder, None, **others)))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "student").exists()


def test_a_missing_configuration():
    for stage in ("pipeline", "trainer"):
        done = run(stage, "no/such.yaml")
        assert done.returncode == 2 and "no/such.yaml: cannot read the configuration" in done.stderr


def test_differences_names_both_values():
    assert differences({"a": {"b": 1}, "c": [1, 2]}, {"a": {"b": 2}, "c": [1, 2]}) == "a.b was 1, now 2"
    assert differences({"a": 1}, {"a": 1}) == ""
    assert differences({"a": None}, {}) == "a was None, now 'absent'"
