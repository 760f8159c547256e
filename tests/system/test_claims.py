"""The commands accept the configurations behind the claims, and all steps that these need exist."""

import json
import zipfile
from collections import Counter

import pytest

from examples.claims import methods
from examples.claims.corpora import read_interface
from examples.claims.evaluated import Evaluated
from examples.claims.plan import ablations, pairs, plan
from examples.claims.report import order_claim
from examples.claims.transfer import lookup_accuracy
from examples.demo.__main__ import steps as demo_steps
from examples.schedule import Step
from pipeline.config import PipelineConfig
from schemas.config import load_config
from schemas.storage import write_bytes
from trainer.config import TrainerConfig
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.formats.labelled_words import Sentence

MODELS = {"pipeline": PipelineConfig, "trainer": TrainerConfig, "trainer.evaluation": EvaluationConfig}


def check(steps: list[Step]) -> None:
    assert not [name for name, count in Counter(step.name for step in steps).items() if count > 1]
    names = {step.name for step in steps}
    for step in steps:
        assert set(step.needs) <= names, step.name
        module, *arguments = step.arguments[1:]
        if module in MODELS:
            load_config(arguments[0], MODELS[module], arguments[1:])


@pytest.mark.parametrize("has_tags", [True, False])
def test_the_claims(tmp_path, has_tags):
    check(plan(tmp_path, has_tags))
    assert len(pairs()) >= 10 and "base" in ablations()


def test_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(demo_steps())


def test_the_methods(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "ROOT", tmp_path)
    for (runs, names), teachers in (
        (methods.unrelated(), ("en", "zh", "tl", "en-further", "zh-further", "tl-further")),
        (methods.several(), ("en", "multi-fr-en", "multi-es-fr-en")),
    ):
        check([*runs.steps, *(Step(name, ("-c", "")) for name in teachers)])
        assert {f"{name}-{seed}" for name in names for seed in methods.SEEDS} <= {step.name for step in runs.steps}


@pytest.mark.parametrize(
    ("agrees", "measured", "verdict"),
    [
        ([True] * 9 + [False], "9 of 10", "yes"),
        ([True] * 8 + [False], "8 of 9", "**no**"),
        ([True, None, None], "1 of 1; 2 pairs without a clear difference", "yes"),
        ([None, None], "0 of 0; 2 pairs without a clear difference", "not tried"),
    ],
)
def test_the_order_of_pairs(agrees, measured, verdict):
    claim = order_claim("these", agrees)
    assert (claim.measured, claim.verdict) == (measured, verdict)


def test_scores_of_seeds_that_the_report_does_not_have_are_not_read(tmp_path):
    folder = tmp_path / "evaluation" / "e"
    report = {"results": [], "costs": [], "measurement": {"seeds": [0]}}
    write_bytes(str(folder / "report.json"), json.dumps(report).encode())
    for model, by_name in {"a": {"en-0": 1, "en-1": 0}, "b": {"en-0": 0}, "c": {"en": 1}}.items():
        for name, value in by_name.items():
            ratios = {"accuracy": {"numerators": [value] * 10, "denominators": [1] * 10}}
            content = {"scores": [{"language": "en", "ratios": ratios}]}
            write_bytes(str(folder / "scores" / "t" / model / f"{name}.json"), json.dumps(content).encode())
    evaluated = Evaluated(tmp_path, "e")
    assert evaluated.compared("t", "accuracy", ("a", "b"), "en", "en").value == 1
    # A task that trains nothing has no seeds.
    assert evaluated.compared("t", "accuracy", ("c", "b"), "en").value == 1


def test_looking_tags_up():
    """A known word gets its own most common tag, an unknown one the most common tag of all words."""

    def sentence(*words: str) -> Sentence:
        pairs = [word.split("/") for word in words]
        return Sentence([word for word, _ in pairs], [tag for _, tag in pairs], "f", [0] * len(pairs))

    train = [sentence("a/DET", "a/DET", "a/NOUN", "b/NOUN", "c/NOUN")]
    assert lookup_accuracy(train, [sentence("a/DET", "b/VERB", "new/NOUN", "new/DET")]) == 2 / 4


def test_texts_of_an_interface(tmp_path):
    wheel = tmp_path / "w.whl"
    texts = {"title": "Ciao", "config": {"step": "[%key:common::x%] Vai", "again": "Ciao"}, "empty": ""}
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("homeassistant/components/a/translations/it.json", json.dumps(texts))
        archive.writestr("homeassistant/components/b/translations/it.json", json.dumps({"title": "Ciao"}))
        archive.writestr("homeassistant/components/b/translations/fr.json", json.dumps({"title": "Salut"}))
    assert read_interface(wheel, "it") == ["Ciao Vai"]
