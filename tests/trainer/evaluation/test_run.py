"""A whole evaluation: which scores are kept, which are computed again, and what is refused before any model runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import normalizers
from transformers import AutoTokenizer

from schemas.errors import UserError
from schemas.vocabulary import VOCABULARY_FILE
from trainer.evaluation.__main__ import main
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.models import Model
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.run import run_evaluation
from trainer.evaluation.tasks.cost import Cost
from trainer.evaluation.tasks.likelihood import Likelihood
from trainer.evaluation.tasks.masked import Masked
from trainer.evaluation.tasks.minimal_pairs import MinimalPairs
from trainer.evaluation.tasks.tagging import TaggingProbe
from trainer.evaluation.tasks.tokenization import Tokenization

TASKS = (Likelihood, Masked, Tokenization, Cost, MinimalPairs, TaggingProbe)


@pytest.fixture
def settings(teachers, tmp_path):
    """Two copies of a model, on two sentences of English."""
    for name in ("a", "b"):
        shutil.copytree(teachers / "en-wordpiece", tmp_path / name)
    (tmp_path / "en.txt").write_text("the river sings\nthe sea sings\n")
    return {
        "output": str(tmp_path / "out"),
        "models": {name: {"model": str(tmp_path / name)} for name in ("a", "b")},
        "text": {"en": [str(tmp_path / "en.txt")]},
        "max_length": 24,
    }


@pytest.fixture
def ran(monkeypatch):
    """The jobs that are really run instead of taken from kept scores."""
    jobs = []
    for task in TASKS:

        def run(self, job, model, before=task.run):
            jobs.append(job)
            return before(self, job, model)

        monkeypatch.setattr(task, "run", run)
    return jobs


def evaluate(settings, **changes):
    return run_evaluation(EvaluationConfig.model_validate(settings | changes))


def change_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def add_tokens(folder: Path, token: str, **settings) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([token], **settings)
    tokenizer.save_pretrained(folder)


def give_tokenizer(student: Path, language: str) -> None:
    """Gives a student a tokenizer of a language that segments otherwise than its default one."""
    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save_pretrained(student / "tokenizers" / language)


def change_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: value * 1.5 for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def test_a_second_run_scores_nothing(settings, ran):
    first = evaluate(settings)
    assert len(ran) == 8
    second = evaluate(settings)
    assert len(ran) == 8
    assert first.seconds == second.seconds
    for job, (scores,) in first.scores.items():
        (kept,) = second.scores[job]
        assert (kept.figures, kept.questions) == (scores.figures, scores.questions)
        assert {k: r.value for k, r in kept.ratios.items()} == {k: r.value for k, r in scores.ratios.items()}


def test_changed_weights_are_scored_again(settings, ran, tmp_path):
    before = evaluate(settings)
    ran.clear()
    change_weights(tmp_path / "b")
    after = evaluate(settings)
    assert {job.model for job in ran} == {"b"} and len(ran) == 4
    (job,) = (job for job in ran if job.task == "likelihood")
    values = [x.scores[job][0].ratios["bits_per_character"].value for x in (before, after)]
    assert values[0] != values[1]


def test_what_decides_speed_is_measured_again(settings, ran):
    evaluate(settings)
    ran.clear()
    evaluate(settings, batch_tokens=100)
    assert {job.task for job in ran} == {"cost"}


def test_another_language_leaves_the_scores_of_the_first(settings, ran, tmp_path):
    evaluate(settings)
    ran.clear()
    (tmp_path / "fi.txt").write_text("the river\n")
    evaluate(settings, text=settings["text"] | {"fi": [str(tmp_path / "fi.txt")]})
    assert {job.language for job in ran} == {"fi"}


def test_the_text_is_opened_once(settings, monkeypatch):
    from trainer.evaluation.tasks import plain_text

    opened = []
    before = plain_text.open_text
    monkeypatch.setattr(
        plain_text, "open_text", lambda language, text: opened.append(language) or before(language, text)
    )
    evaluate(settings)
    assert opened == ["en"]


def test_one_model_is_in_memory_at_a_time(settings, monkeypatch):
    models = []
    init = Model.__init__
    monkeypatch.setattr(Model, "__init__", lambda self, *arguments: models.append(self) or init(self, *arguments))
    loaded = []
    run = Likelihood.run

    def counted(self, job, model):
        scores = run(self, job, model)
        loaded.append([other.name for other in models if "masked_lm" in vars(other)])
        return scores

    monkeypatch.setattr(Likelihood, "run", counted)
    evaluate(settings)
    assert loaded == [["a"], ["b"]]
    assert not any("masked_lm" in vars(model) for model in models)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), r"models\.b .*cannot be loaded"),
        (lambda folder: (folder / "config.json").unlink(), r"models\.b .*cannot be loaded"),
        (
            lambda folder: change_json(folder / "tokenizer_config.json", model_max_length=2),
            "models.b: reads only 2 tokens",
        ),
        (
            lambda folder: change_json(folder / "tokenizer_config.json", mask_token=None),
            "models.b: its tokenizer has no mask",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"models\.b .*cannot be loaded"),
        (
            lambda folder: add_tokens(folder, "NEW"),
            r"models.b: its tokenizer gives the id \d+ for 'NEW', but its embedding has \d+ rows; remove this added token",
        ),
        (
            lambda folder: add_tokens(folder, "[NEW]", special_tokens=True),
            r"models.b: its tokenizer gives the id \d+ for '\[NEW\]', .*; give the model's own tokenizer",
        ),
    ],
)
def test_a_model_that_cannot_be_run_is_refused_before_any_runs(settings, ran, tmp_path, damage, message):
    damage(tmp_path / "b")
    with pytest.raises(UserError, match=message):
        evaluate(settings)
    assert ran == [] and not (tmp_path / "out").exists()


def test_a_language_that_a_student_lacks_is_named(settings, tmp_path, caplog):
    give_tokenizer(tmp_path / "a", "fi")
    models = content_of(evaluate(settings)).models
    (warning,) = caplog.messages
    assert warning == (
        "models.a: has no tokenizer for en, and reads that text with its default tokenizer; its languages are fi"
    )
    assert [(m.tokenizer, m.default_for) for m in models] == [("language", ["en"]), ("only one", [])]


def test_a_student_without_the_tokenizer_of_a_teachers_language_is_refused(settings, ran, tmp_path):
    give_tokenizer(tmp_path / "a", "fi")
    student = settings["models"]["a"] | {"teachers": {"en": "b"}}
    with pytest.raises(UserError, match=r"models\.a\.teachers\.en: .*no tokenizer for 'en'.*; its languages are fi\."):
        evaluate(settings, models=settings["models"] | {"a": student})
    assert ran == []
    evaluate(settings, models=settings["models"] | {"a": student | {"tokenizer": "default"}})


def test_a_student_is_ranked_as_a_teacher_with_the_tokenizer_that_the_pipeline_reads(settings, ran, tmp_path):
    give_tokenizer(tmp_path / "a", "en")
    comparison = {"routing": str(tmp_path / "routing.yaml")}
    with pytest.raises(UserError, match=r"models\.a\.tokenizer: .*; set `tokenizer: default`, or"):
        evaluate(settings, comparison=comparison)
    assert ran == []
    default = {"a": settings["models"]["a"] | {"tokenizer": "default"}}
    evaluate(settings, comparison=comparison, models=settings["models"] | default)
    evaluate(
        settings,
        comparison=comparison | {"candidates": ["b", "c"]},
        models=settings["models"] | {"c": settings["models"]["b"]},
    )


def test_a_device_that_is_not_there_is_refused_before_files_are_read(settings):
    missing = "gpu", "meta", *(["cuda"] if not torch.cuda.is_available() else [])
    for device in missing:
        with pytest.raises(UserError, match=f"device: '{device}' cannot be used"):
            evaluate(settings, device=device, text={"en": ["gone.txt"]})


def test_nothing_to_evaluate_on_is_refused(settings):
    with pytest.raises(UserError, match="nothing to evaluate on"):
        evaluate(settings, text={})


def test_vocabularies_for_the_report_are_read_before_any_model_runs(settings, ran, tmp_path, capsys):
    (tmp_path / "b" / VOCABULARY_FILE).write_bytes(b"PAR")
    path = tmp_path / "evaluation.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert main([str(path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{VOCABULARY_FILE}: not a Parquet file" in line and ran == []


def test_a_routing_that_cannot_be_written_is_refused_before_any_model_runs(settings, ran, tmp_path, capsys):
    path = tmp_path / "evaluation.yaml"
    path.write_text(yaml.safe_dump(settings | {"comparison": {"routing": str(tmp_path / "en.txt" / "routing.yaml")}}))
    assert main([str(path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "en.txt is a file, not a folder" in line and ran == []
