"""`key=value` after the YAML: it is read by the rules of the file, and errors quote it as written."""

import pytest

import pipeline.__main__
import trainer.__main__
import trainer.export
from pipeline.__main__ import _split
from pipeline.config import PipelineConfig
from schemas.config import load_config
from schemas.errors import UserError
from trainer.config import TrainerConfig

PIPELINE = """\
output: out
teachers:
  bert.v2: {model: m, languages: [en]}
text: {en: [a.txt]}
"""
TRAINER = "output: out\npredictions: p\nstudent: {settings: {model_type: bert}}\nmax_steps: 3\n"


@pytest.fixture
def load(tmp_path):
    """A function that reads a configuration from text and overrides."""

    def load(model, content: str, *overrides: str):
        path = tmp_path / "c.yaml"
        path.write_text(content)
        return load_config(str(path), model, overrides)

    return load


def test_they_stand_for_what_the_file_says_or_does_not_say(load):
    config = load(
        TrainerConfig, TRAINER, "max_steps=100", "optimizer.learning_rate=1e-3", "student.settings.hidden_size=256",
        "student.settings.model_type=xlm-roberta", "predictions=[a, b]", "fsdp=true", "heldout=gs://bucket/x=y", "seed=1_000",
        "optimizer.betas=[0.8, 0.9]", "wandb_project=", "student.architecture_from=m", "student.revision='12'",
    )  # fmt: skip
    assert (config.max_steps, config.optimizer.learning_rate, config.seed, config.fsdp) == (100, 1e-3, 1000, True)
    assert config.student.settings == {"model_type": "xlm-roberta", "hidden_size": 256}
    assert (config.predictions, config.heldout) == (["a", "b"], ["gs://bucket/x=y"])
    assert (config.optimizer.betas, config.wandb_project, config.student.revision) == ((0.8, 0.9), None, "12")
    assert config.output == "out"


def test_the_same_as_a_file_that_says_so(load):
    expected = load(PipelineConfig, PIPELINE.replace("model: m", "model: n, device: cuda") + "masking: {copies: 2}\n")
    overrides = ["teachers.bert.v2.device=cuda", "teachers.bert.v2.model=n", "masking={copies: 2}"]
    assert load(PipelineConfig, PIPELINE, *overrides) == expected
    added = load(PipelineConfig, PIPELINE, "teachers.other={model: o, languages: [fr]}", "text.fr=[b.txt]")
    assert list(added.teachers) == ["bert.v2", "other"] and added.text["fr"].files == ["b.txt"]


def test_of_an_alias_only_the_named_place_changes(load):
    content = PIPELINE.replace("{model", "&t {model").replace("text:", "  other: *t\ntext:")
    config = load(PipelineConfig, content, "teachers.other.model=n")
    assert (config.teachers["bert.v2"].model, config.teachers["other"].model) == ("m", "n")


REFUSED = {
    "max_steps=abc": "max_steps=abc: Input should be a valid integer",
    "max_steps=0": "max_steps=0: Input should be greater than or equal to 1",
    "optimizer.learning_rate=-1": "optimizer.learning_rate=-1: Input should be greater than 0",
    "max_stpes=3": "max_stpes=3: unknown field; `--help` lists the known ones",
    "steps=3": "steps=3: was renamed to `max_steps`",
    "optimizer.clip_norm=3": "optimizer.clip_norm=3: was renamed to `max_grad_norm`",
    "optimizer.beta=3": "optimizer.beta=3: unknown field",
    "seed=0123": "seed=0123: `0123` is an integer to YAML, in an unusual form",
    "seed=12:30:45": "seed=12:30:45: `12:30:45` is an integer to YAML, in an unusual form",
    "output=2020-01-02": "output=2020-01-02: `2020-01-02` is a timestamp to YAML",
    "output=no": "output=no: `no` is true or false to YAML; to make it text, put it into quotes",
    "output=": "output=: is empty; expected text",
    "output=[": "output=[: not valid YAML",
    "output=!!python/object/apply:os.system [ls]": "output=!!python/object/apply:os.system [ls]: a python/object/apply:os.system",
    "output=a\nseed: 3": "output=a\nseed: 3: not valid YAML",
    "predictions=[a, 3]": "predictions=[a, 3]: predictions.1: `3` is an integer to YAML",
    "optimizer={learning_rate: 1, learning_rate: 2}": "optimizer={learning_rate: 1, learning_rate: 2}: learning_rate: given twice",
    "max_steps.x=3": "max_steps.x=3: sets a field of what is an integer at c.yaml:4, not a section",
    "output.x=3": "output.x=3: sets a field of what is text at c.yaml:1, not a section",
    "max_steps": "max_steps: expected KEY=VALUE",
    "=3": "=3: expected KEY=VALUE",
    "optimizer..beta=3": "optimizer..beta=3: expected KEY=VALUE",
    ".".join("a" * 40) + "=1": ".".join("a" * 40) + "=1: nested too deeply",
    "seed=" + "9" * 50: "seed=" + "9" * 50 + ": an integer of 50 digits",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_wrong_is_said_of_the_override(load, override, tmp_path):
    with pytest.raises(UserError) as raised:
        load(TrainerConfig, TRAINER, override)
    assert str(raised.value).replace(f"{tmp_path}/", "").startswith(REFUSED[override])


def test_twice_is_refused(load):
    with pytest.raises(UserError, match="^max_steps=2: given twice"):
        load(TrainerConfig, TRAINER, "max_steps=1", "max_steps=2")


def test_the_file_still_has_its_lines(load):
    with pytest.raises(UserError, match="c.yaml:5: max_skipped_steps: Input should be a valid integer"):
        load(TrainerConfig, TRAINER + "max_skipped_steps: x", "max_steps=4")
    with pytest.raises(UserError, match="c.yaml:3: student.settings.x"):
        load(TrainerConfig, TRAINER.replace("bert}", "bert, x: [1]}"), "student.settings.hidden_size=4")
    assert load(TrainerConfig, TRAINER + "seed: x", "seed=4").seed == 4


@pytest.mark.parametrize(
    ("arguments", "overrides", "beam"),
    [
        (["top_k=4", "--runner=DirectRunner"], ["top_k=4"], ["--runner=DirectRunner"]),
        (["--runner=DirectRunner", "top_k=4"], ["top_k=4"], ["--runner=DirectRunner"]),
        (["--runner", "DirectRunner", "top_k=4"], ["top_k=4"], ["--runner", "DirectRunner"]),
        (["--labels", "a=b", "seed=1"], ["seed=1"], ["--labels", "a=b"]),
        (["more.yaml"], ["more.yaml"], []),
    ],
)
def test_beside_beams_options(arguments, overrides, beam):
    assert _split(arguments) == (overrides, beam)


@pytest.mark.parametrize(
    ("command", "content", "arguments", "message"),
    [
        (pipeline.__main__, PIPELINE, ["top_k=x", "--runner=DirectRunner"], "top_k=x: Input should be a valid integer"),
        (pipeline.__main__, PIPELINE, ["--dry-run", "top_k=x"], "top_k=x: Input should be a valid integer"),
        (pipeline.__main__, PIPELINE, ["more.yaml"], "more.yaml: expected KEY=VALUE"),
        (trainer.__main__, TRAINER, ["seed=1", "max_steps=x"], "max_steps=x: Input should be a valid integer"),
        (trainer.__main__, TRAINER, ["more.yaml"], "more.yaml: expected KEY=VALUE"),
        (trainer.export, TRAINER, ["max_steps=x", "--to", "t"], "max_steps=x: Input should be a valid integer"),
        (trainer.export, TRAINER, ["--to", "t", "max_steps=x"], "max_steps=x: Input should be a valid integer"),
    ],
)
def test_of_each_command(command, content, arguments, message, tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    assert command.main([str(path), *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}") and printed.count("\n") == 1
