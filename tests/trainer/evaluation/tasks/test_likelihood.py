"""Bits per character, in a whole evaluation."""

import shutil

import numpy as np
import pytest
from transformers import AutoTokenizer

from schemas.errors import UserError
from tests.support import world
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.models import Model
from trainer.evaluation.run import run_evaluation
from trainer.evaluation.tasks.task import Job, TaskFiles


def config(tmp_path, teachers, **changes):
    for language in ("en", "ru"):
        (tmp_path / f"{language}.txt").write_text("\n".join(world.sentences(language, 6)) + "\n")
    fields = {
        "output": str(tmp_path / "out"),
        "models": {
            "english": {"model": str(teachers / "en-wordpiece"), "languages": ["en"]},
            "hindi": {"model": str(teachers / "hi-bpe")},
        },
        "text": {language: [str(tmp_path / f"{language}.txt")] for language in ("en", "ru")},
        "batch_tokens": 256,
    }
    return EvaluationConfig(**fields | changes)


def test_bits_per_character_of_each_model_and_language(teachers, tmp_path):
    evaluation = run_evaluation(config(tmp_path, teachers))
    assert {(job.model, job.language) for job in evaluation.scores} == {
        ("english", "en"), ("hindi", "en"), ("hindi", "ru")
    }  # fmt: skip
    files = [TaskFiles(language, {"test": [str(tmp_path / f"{language}.txt")]}) for language in ("en", "ru")]
    assert evaluation.tasks["likelihood"].files() == files
    (scores,) = evaluation.scores[Job("likelihood", "hindi", "ru")]
    ratio = scores.ratios["bits_per_character"]
    lines = world.sentences("ru", 6)
    assert ratio.denominators_U.tolist() == [len(line) for line in lines]
    # Random weights know nothing: each token costs about the entropy of a uniform choice, or more.
    tokenizer = AutoTokenizer.from_pretrained(teachers / "hi-bpe")
    tokens = np.array([len(tokenizer(line)["input_ids"]) - 2 for line in lines])
    assert (ratio.numerators_U > 0.5 * tokens * np.log2(len(tokenizer))).all()
    assert scores.figures == {"changed_characters": 0, "unknown_characters": 0}


def test_a_model_without_a_mask_token_is_refused_before_any_runs(teachers, tmp_path, monkeypatch):
    folder = tmp_path / "maskless"
    shutil.copytree(teachers / "en-wordpiece", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder)
    monkeypatch.setattr(Model, "masked_lm", property(lambda model: pytest.fail("a model ran")))
    models = {"english": {"model": str(teachers / "en-wordpiece")}, "maskless": {"model": str(folder)}}
    with pytest.raises(
        UserError, match=r"models.maskless: its tokenizer has no mask token, which pseudo-likelihood needs"
    ):
        run_evaluation(config(tmp_path, teachers, models=models))


@pytest.mark.parametrize(
    ("content", "message"), [(None, "text.fi: no file matches"), ("\n\n", "text.fi: its files have no text")]
)
def test_no_text_is_refused(teachers, tmp_path, content, message):
    if content is not None:
        (tmp_path / "fi.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        run_evaluation(
            config(
                tmp_path,
                teachers,
                models={"m": {"model": str(teachers / "hi-bpe")}},
                text={"fi": [str(tmp_path / "fi.txt")]},
            )
        )
