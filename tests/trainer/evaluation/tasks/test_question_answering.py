"""Question answering, compared with a plain loop."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UserError
from tests.support import world
from tests.support.labelled import NOUNS, VERBS, evaluation, load_model, make_learner, run_task
from trainer.evaluation.formats.squad import Question
from trainer.evaluation.tasks.question_answering import QuestionAnswering, _answer_tokens, _best_span


def write(path, count: int, seed: int, impossible: float = 0) -> str:
    """Writes contexts of nouns with one verb, which is the answer."""
    source = random.Random(seed)
    questions = []
    for number in range(count):
        words = source.choices(NOUNS["en"], k=source.randint(3, 8))
        answer, place = source.choice(VERBS["en"]), source.randrange(len(words))
        if refused := source.random() < impossible:
            context, answers = " ".join(words), []
        else:
            words.insert(place, answer)
            context = " ".join(words)
            answers = [{"text": answer, "answer_start": context.index(answer)}]
        asked = {"id": number, "question": "writes", "answers": answers, "is_impossible": refused}
        questions.append({"context": context, "qas": [asked]})
    path.write_text(json.dumps({"data": [{"paragraphs": questions}]}))
    return str(path)


@pytest.mark.heavy
@pytest.mark.parametrize("impossible", [0, 0.4])
def test_answers_are_learned(tmp_path, teachers, impossible):
    files = {use: write(tmp_path / use, count, seed, impossible)
             for seed, (use, count) in enumerate([("train", 120), ("test", 30)])}  # fmt: skip
    model = make_learner(tmp_path / "model", teachers / "en-wordpiece")
    config = evaluation(tmp_path, models={"m": {"model": str(model)}}, question_answering={"en": files})
    ratios = run_task(QuestionAnswering, config, "m")["en"].ratios
    assert ratios["exact_match"].value > 0.6
    assert ratios["f1"].value >= ratios["exact_match"].value
    assert ratios["f1"].denominators_U.tolist() == [1] * 30


def test_test_questions_that_no_model_can_refuse_are_said(tmp_path, caplog):
    def make(impossible_in_training: float) -> None:
        files = {
            "train": write(tmp_path / "train", 20, 0, impossible_in_training),
            "test": write(tmp_path / "test", 20, 1, 0.4),
        }
        QuestionAnswering.from_config(
            evaluation(tmp_path, models={"m": {"model": "x"}}, question_answering={"en": files})
        )

    make(0.4)
    assert not caplog.messages
    make(0)
    (line,) = caplog.messages
    assert "test questions have no answer, but all training questions in en have one" in line


def test_misplaced_answers_are_refused_in_tests_alone(tmp_path, caplog):
    good = write(tmp_path / "good", 5, 0)
    content = json.loads(Path(good).read_text())
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += 1
    (tmp_path / "bad").write_text(json.dumps(content))

    def make(train: str, test: str) -> QuestionAnswering:
        files = {"train": str(tmp_path / train), "test": str(tmp_path / test)}
        return QuestionAnswering.from_config(
            evaluation(tmp_path, models={"m": {"model": "x"}}, question_answering={"en": files})
        )

    assert len(make("bad", "good").train["en"]) == 4
    with pytest.raises(UserError, match="question 0: the context has .*, not the answer"):
        make("good", "bad")


def test_the_best_span_is_that_of_all_pairs():
    source = np.random.default_rng(0)
    for length in (1, 7, 50):
        start_L, end_L = source.normal(size=(2, length))
        spans = [(start_L[i] + end_L[j], i, j) for i in range(length) for j in range(i, min(length, i + 30))]
        assert _best_span(start_L, end_L) == max(spans)


@pytest.mark.parametrize("name", world.TEACHERS)
def test_each_answer_is_whole_in_a_window(tmp_path, teachers, name):
    """The target tokens decode to the answer's text; windows without the answer point at the first token."""
    lines = world.sentences(world.TEACHERS[name], 40)[8:]
    questions = []
    for line in lines:
        words = line.split()
        middle = len(words) // 2
        start = len(" ".join(words[:middle])) + 1
        questions.append(Question(words[0] * 9, line, [(start, words[middle])]))
    (tmp_path / "a.json").write_text(
        json.dumps({"data": [{"paragraphs": [{"context": "x", "qas": [
            {"question": "x", "answers": [{"text": "x", "answer_start": 0}]}]}]}]})
    )  # fmt: skip
    files = {use: str(tmp_path / "a.json") for use in ("train", "test")}
    config = evaluation(tmp_path, models={"m": {"model": str(teachers / name)}}, question_answering={"en": files})
    task = QuestionAnswering.from_config(config)
    encoded = task._windows(load_model(config, "m"), "en", questions)
    seen = set()
    for window, number in enumerate(encoded["overflow_to_sample_mapping"]):
        assert len(encoded["input_ids"][window]) <= 24
        start, end = _answer_tokens(encoded, window, questions[number])
        if (start, end) != (0, 0):
            seen.add(number)
            offsets = encoded["offset_mapping"][window]
            text = questions[number].context[offsets[start][0] : offsets[end][1]].strip()
            assert text == questions[number].answers[0][1]
    # An answer may be longer than the overlap of windows, so that no window holds all of it.
    assert len(seen) > 0.9 * len(questions)


def test_too_short_windows_are_refused(tmp_path, teachers):
    files = {use: write(tmp_path / use, 3, 0) for use in ("train", "test")}
    config = evaluation(
        tmp_path, models={"m": {"model": str(teachers / "en-wordpiece")}}, question_answering={"en": files},
        fine_tuning={"max_length": 12},
    )  # fmt: skip
    with pytest.raises(UserError, match="12 tokens are too few for a question"):
        run_task(QuestionAnswering, config, "m")
