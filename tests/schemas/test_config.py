"""Faulty configurations and command lines give one clear line and exit code 2, before any work."""

import typing

import pytest
import yaml
from pydantic import BaseModel

from examples.demo.__main__ import STUDENTS
from pipeline.config import PipelineConfig
from schemas.config import describe_fields, load_config, nested_config, recorded
from schemas.errors import UserError
from tests.support.commands import call, run
from tests.support.paths import ROOT
from trainer.config import TrainerConfig
from trainer.evaluation.config import EvaluationConfig

CONFIGS = [
    (PipelineConfig, "examples/demo/predictions.yaml"),
    (PipelineConfig, "examples/demo/heldout.yaml"),
    (PipelineConfig, "examples/hub/predictions.yaml"),
    (PipelineConfig, "examples/hub/heldout.yaml"),
    (PipelineConfig, "examples/local/predictions.yaml"),
    (PipelineConfig, "examples/local/heldout.yaml"),
    (TrainerConfig, "examples/demo/student.yaml"),
    (TrainerConfig, "examples/hub/student.yaml"),
    (TrainerConfig, "examples/local/student.yaml"),
    (EvaluationConfig, "examples/demo/evaluation.yaml"),
    (EvaluationConfig, "examples/hub/evaluation.yaml"),
    (EvaluationConfig, "examples/hub/teachers.yaml"),
    (EvaluationConfig, "examples/local/evaluation.yaml"),
]


@pytest.mark.parametrize(("model", "path"), CONFIGS)
def test_examples_are_valid(model, path):
    load_config(str(ROOT / path), model)


@pytest.mark.parametrize("folder", ["demo", "hub", "local"])
def test_an_examples_commands_follow_one_another(folder):
    """Each file of an example reads what the others write, so that its commands can be run in order."""
    predictions, heldout = (
        load_config(str(ROOT / f"examples/{folder}/{name}.yaml"), PipelineConfig) for name in ("predictions", "heldout")
    )
    student = load_config(str(ROOT / f"examples/{folder}/student.yaml"), TrainerConfig)
    evaluation = load_config(str(ROOT / f"examples/{folder}/evaluation.yaml"), EvaluationConfig)
    assert heldout.teachers == predictions.teachers and heldout.output != predictions.output
    assert student.predictions == [predictions.output] and student.heldout == [heldout.output]
    assert student.student.encoder_from in predictions.teachers
    assert bool(predictions.tail_samples) == student.distillation.reads_samples
    assert evaluation.models["student"].model == student.output
    for name, teacher in predictions.teachers.items():
        model = evaluation.models[name]
        assert (model.model, model.languages) == (teacher.model, list(teacher.languages))
    for language, text in heldout.text.items():
        assert evaluation.text[language].files == text.files != predictions.text[language].files


def test_the_demos_students_differ_in_start_and_lambda_alone():
    path = str(ROOT / "examples/demo/student.yaml")
    configs = {name: load_config(path, TrainerConfig, list(overrides)) for name, overrides in STUDENTS.items()}
    assert {name: config.distillation.distils for name, config in configs.items()} == {
        "student": True,
        "student-random": True,
        "mlm-only": False,
        "mlm-only-random": False,
    }
    assert configs["student"].student == configs["mlm-only"].student
    assert configs["student-random"].student == configs["mlm-only-random"].student
    assert configs["student"].stages == configs["mlm-only"].stages
    assert configs["student-random"].stages == configs["mlm-only-random"].stages
    assert configs["student-random"].student.encoder_from is None
    alike = [
        config.model_dump(exclude={"student", "distillation", "stages", "optimizer"}) for config in configs.values()
    ]
    assert all(settings == alike[0] for settings in alike)


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
        (
            "output: a\nteachers: {t: {model: m, languages: [en]}}\ntext: {en: [a]}\nmasking:",
            ":4: masking: expected a section with fields of mlm_probability, mask_replace_prob, random_replace_prob, copies",
        ),
        (
            "output: a\nteachers: {t: }\ntext: {en: [a]}",
            ":2: teachers.t: expected a section with fields of model, languages",
        ),
        ("output: a\nteachers:\n  t:\n    model: m", ":3: teachers.t.languages: Field required"),
        (
            "output: a\ntop_k: many\nteachers: {t: {model: m, languages: [en]}}\ntext: {en: [a]}",
            ":2: top_k: Input should be a valid integer",
        ),
        (
            "output: a\nteachers: {t: {model: m, languages: [en]}}\ntext: {en: [a]}\nseed: yes",
            ":4: seed: expected a number, not true",
        ),
        (
            "output: a\nteachers: {t: {model: m, languages: [xx]}}\ntext: {en: [a.txt]}",
            "`text` does not have the language 'xx', only: en",
        ),
        (
            "output: a\nteachers: {t: {model: m, languages: [en]}}\ntext: {en: [a], fr: [b]}",
            "no teacher has 'fr' in its languages",
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


ROUTED = "output: a\ntext: {en: [a], fr: [b]}\nteachers: routing.yaml\n"
ROUTING = "# Which teacher for which language.\nbert.v2:\n  model: m\n  languages: {en: all}\nother: {model: n, languages: [fr]}\n"


@pytest.fixture
def routed(tmp_path, monkeypatch):
    """A function that reads a configuration whose teachers are in `routing.yaml` in its folder, not the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()

    def load(routing: str, *overrides: str, content: str = ROUTED) -> PipelineConfig:
        (tmp_path / "sub" / "c.yaml").write_text(content)
        (tmp_path / "sub" / "routing.yaml").write_text(routing)
        return load_config("sub/c.yaml", PipelineConfig, overrides)

    return load


def test_a_section_may_lie_in_a_file_of_its_own(routed, tmp_path):
    inline = ROUTED.replace(" routing.yaml", "\n" + "".join(f"  {line}\n" for line in ROUTING.splitlines()))
    config = routed(ROUTING)
    assert list(config.teachers) == ["bert.v2", "other"] and config == routed("", content=inline)
    changed = routed(ROUTING, "teachers.bert.v2.dtype=float32", "teachers.other={model: o, languages: [fr]}")
    assert (changed.teachers["bert.v2"].dtype, changed.teachers["other"].model) == ("float32", "o")
    # An override and an absolute path work too.
    assert routed(ROUTING, "teachers=routing.yaml", content=inline.replace("model: m", "model: o")) == config
    assert routed(ROUTING, f"teachers={tmp_path}/sub/routing.yaml", content=inline) == config


@pytest.mark.parametrize(
    ("routing", "message"),
    [
        (
            "teachers:\n" + "".join(f"  {line}\n" for line in ROUTING.splitlines()),
            "^sub/routing.yaml:1: remove the line `teachers:`",
        ),
        (ROUTING.replace("model: n", "modle: n"), r"^sub/routing.yaml:5: teachers.other.modle: unknown field"),
        (ROUTING.replace("  model: m\n", ""), r"^sub/routing.yaml:2: teachers.bert.v2.model: Field required"),
        (
            ROUTING.replace("all", "2"),
            r"^sub/routing.yaml:4: teachers.bert.v2.languages.en: expected `all` or a number",
        ),
        (ROUTING + "other: {}", r"^sub/routing.yaml:6: other: given twice"),
        (ROUTING + "x: [", r"^sub/routing.yaml:6: not valid YAML"),
        (ROUTING + "x: !!python/object/apply:os.system [ls]", r"^sub/routing.yaml:6: a python/object"),
        (ROUTING + "x: &x {a: *x}", r"^sub/routing.yaml:6: nested too deeply, or an alias contains itself"),
        (
            ROUTING.replace("all", "0.3"),
            r"^sub/routing.yaml:4: teachers.bert.v2.languages.en: the teachers' shares of 'en' \(bert.v2 0.3\) sum to 0.3",
        ),
        (ROUTING.replace("other", "role"), r"^sub/routing.yaml:5: teachers.role: a teacher cannot be called 'role'"),
        ("", r"^sub/routing.yaml: expected `field: value` lines"),
        ("- a", r"^sub/routing.yaml: expected `field: value` lines"),
        (
            ROUTING.replace("[fr]", "[xx]"),
            r"^sub/routing.yaml:5: teachers.other.languages.xx: `text` does not have the language",
        ),
    ],
)
def test_what_is_wrong_in_that_file_is_said_with_its_line(routed, routing, message):
    with pytest.raises(UserError, match=message):
        routed(routing)


def test_a_section_that_is_no_file_and_a_file_that_is_no_section(routed):
    with pytest.raises(
        UserError, match=r"^sub/c.yaml:3: teachers: there is no file sub/rooting.yaml; give the section"
    ):
        routed(ROUTING, content=ROUTED.replace("routing", "rooting"))
    with pytest.raises(UserError, match=r"^teachers=no.yaml: teachers: there is no file sub/no.yaml"):
        routed(ROUTING, "teachers=no.yaml")
    # No other field accepts the path of a section.
    with pytest.raises(UserError, match=r"^sub/c.yaml:2: text: Input should be a valid dictionary"):
        routed(ROUTING, content=ROUTED.replace("{en: [a], fr: [b]}", "routing.yaml"))


def sections(model, path=()):
    """Yields every section of a configuration: the fields that lead to it, and its class."""
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
            with pytest.raises(UserError, match=f"c.yaml:{len(path) + 1}: .*{old}: was renamed to `{new}`"):
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
            "output extends teachers text inference_threads teachers_in_memory max_rejected max_failed",
        ),
        (
            TrainerConfig,
            "examples/demo/student.yaml",
            "output predictions heldout stages fsdp gradient_checkpointing max_skipped_steps reader_threads logging_steps "
            "wandb_project eval_steps early_stopping_patience export save_steps save_total_limit model_card",
        ),
    ],
)
def test_a_run_records_every_setting_but_those_that_do_not_decide_its_result(model, path, left_out):
    config = load_config(str(ROOT / path), model)
    settings = config.model_dump(mode="json")
    expected = {name: settings[name] for name in settings if name not in left_out.split()}
    assert recorded(config) == expected and list(recorded(config)) == list(expected)
    assert len(settings) - len(expected) == len(left_out.split())
