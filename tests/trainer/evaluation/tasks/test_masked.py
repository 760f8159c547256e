"""Masked tokens, compared with plain transformers one sequence at a time."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from schemas.corpus.config import TextConfig
from tests.support import world
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.masking import mask_text
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.masked import Masked, calibration
from trainer.evaluation.tasks.task import Job


@pytest.fixture
def config(text, teachers, tmp_path):
    return EvaluationConfig(
        output=str(tmp_path),
        models={
            name: {"model": str(teachers / name), "languages": [of]}
            if of in ("en", "ru")
            else {"model": str(teachers / name)}
            for name, of in world.TEACHERS.items()
        },
        text={"en": [str(text / "en.heldout.txt")], "ru": [str(text / "ru.heldout.txt")]},
        max_length=20,
        top_k=5,
        batch_tokens=200,
    )


def scored(config, name, language):
    model = Model(name, config.models[name], torch.device("cpu"))
    (scores,) = Masked.from_config(config).run(Job("masked", name, language), model)
    return scores


@pytest.mark.parametrize(("name", "language"), [("en-wordpiece", "en"), ("ru-unigram", "ru"), ("hi-bpe", "en")])
def test_figures_are_those_of_a_plain_loop(config, teachers, text, name, language):
    tokenizer = AutoTokenizer.from_pretrained(teachers / name)
    model = AutoModelForMaskedLM.from_pretrained(teachers / name).eval()
    records = (text / f"{language}.heldout.txt").read_text().splitlines()
    masked = mask_text(records, tokenizer, 20)
    expected = np.zeros((4, len(records)))
    confidences, hits = [], []
    target = 0
    for ids in np.split(masked.ids_T, np.cumsum(masked.lengths_N)[:-1]):
        with torch.inference_mode():
            logits = model(torch.tensor(ids)[None]).logits[0].double()
        for position in np.flatnonzero(ids == tokenizer.mask_token_id):
            probabilities = logits[position].softmax(0)
            label, record = masked.labels_M[target], masked.record_M[target]
            best = probabilities.sort(descending=True).values
            hits.append(int(probabilities.argmax()) == label)
            confidences.append(float(best[0]))
            expected[:, record] += [1, hits[-1], -float(probabilities[label].log()), float(best[5:].sum())]
            target += 1
    assert target == len(masked.labels_M) > 30
    scores = scored(config, name, language)
    for key, sums_U in zip(("accuracy", "nll", "tail_mass"), expected[1:], strict=True):
        assert scores.ratios[key].denominators_U.tolist() == expected[0].tolist()
        np.testing.assert_allclose(scores.ratios[key].numerators_U, sums_U, rtol=1e-4, atol=1e-5)
    assert sum(scores.figures[f"calibration_count_{number}"] for number in range(10)) == target
    error = 0.0
    for number in range(10):
        inside = [index for index, value in enumerate(confidences) if number / 10 < value <= (number + 1) / 10]
        assert scores.figures[f"calibration_count_{number}"] == len(inside)
        if inside:
            accuracy, confidence = np.mean([hits[i] for i in inside]), np.mean([confidences[i] for i in inside])
            assert scores.figures[f"calibration_accuracy_{number}"] == pytest.approx(accuracy)
            assert scores.figures[f"calibration_confidence_{number}"] == pytest.approx(confidence, rel=1e-4)
            error += len(inside) / target * abs(accuracy - confidence)
    assert scores.figures["ece"] == pytest.approx(error, rel=1e-4)


def test_batches_do_not_change_scores(config):
    whole, small = (
        scored(config.model_copy(update={"batch_tokens": tokens}), "ru-unigram", "ru") for tokens in (4096, 30)
    )
    for key, ratio in whole.ratios.items():
        np.testing.assert_allclose(ratio.numerators_U, small.ratios[key].numerators_U, rtol=1e-4, atol=1e-5)


def test_text_of_unknown_tokens_alone_has_no_value(config, tmp_path):
    (tmp_path / "x.txt").write_text("東京\n北京\n")
    config = config.model_copy(update={"text": {"en": TextConfig(files=[str(tmp_path / "x.txt")])}})
    scores = scored(config, "en-wordpiece", "en")
    assert np.isnan(scores.ratios["nll"].value) and len(scores.ratios["nll"].numerators_U) == 2
    assert "ece" not in scores.figures


def test_jobs_are_those_of_the_languages_of_a_model(config):
    task = Masked.from_config(config)
    assert task.jobs("x", config.models["ru-unigram"]) == [Job("masked", "x", "ru")]
    assert [job.language for job in task.jobs("x", config.models["hi-bpe"])] == ["en", "ru"]


def test_a_confident_model_that_is_right_half_of_the_time():
    figures = calibration(np.array([1.0, 1.0, 0.95, 0.95]), np.array([1.0, 0.0, 1.0, 0.0]))
    assert figures["ece"] == pytest.approx(0.475)
    assert figures["calibration_count_9"] == 4 and "calibration_accuracy_0" not in figures
