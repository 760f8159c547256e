"""Configurations and command lines: one clear line and exit code 2 for what is wrong, before any work."""

import typing

import pytest
import yaml
from pydantic import BaseModel

from pipeline.config import PipelineConfig
from schemas.config import describe_fields, load_config, nested_config, recorded
from schemas.errors import UserError
from tests.support.commands import call, run
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
def test_help_documents_every_field(stage, model, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = call(f"{stage}.__main__", "--help")
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


@pytest.mark.heavy
def test_a_missing_configuration():
    for stage in ("pipeline", "trainer"):
        done = run(stage, "no/such.yaml")
        assert done.returncode == 2 and "no/such.yaml: cannot read the configuration" in done.stderr


@pytest.mark.parametrize(
    ("model", "path", "left_out"),
    [
        (
            PipelineConfig,
            "examples/demo/predictions.yaml",
            "output extends teachers text inference_threads teachers_in_memory max_rejected",
        ),
        (
            TrainerConfig,
            "examples/demo/student.yaml",
            "output predictions heldout fsdp gradient_checkpointing max_skipped_steps reader_threads logging_steps "
            "wandb_project eval_steps early_stopping_patience export save_steps save_total_limit",
        ),
    ],
)
def test_a_run_records_every_setting_but_those_that_do_not_decide_its_result(model, path, left_out):
    config = load_config(str(ROOT / path), model)
    settings = config.model_dump(mode="json")
    expected = {name: settings[name] for name in settings if name not in left_out.split()}
    assert recorded(config) == expected and list(recorded(config)) == list(expected)
    assert len(settings) - len(expected) == len(left_out.split())
