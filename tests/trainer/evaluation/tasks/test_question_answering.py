"""Question answering, compared with a plain loop."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from schemas.errors import UserError
from tests.support import world
from tests.support.labelled import NOUNS, VERBS, evaluation, load_model, make_learner, run_task
from trainer.evaluation.formats.squad import Question
from trainer.evaluation.tasks import question_answering
from trainer.evaluation.tasks.question_answering import QuestionAnswering, _answer_tokens, _best_span
from trainer.evaluation.tasks.task import Job


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


def plain_windows(folder, tuned, question: Question) -> list[tuple[float, str, float]]:
    """The score and the text of each window's best span, and its null score, by plain transformers, one at a time."""
    encoded = AutoTokenizer.from_pretrained(folder)(
        question.question, question.context, truncation="only_second", max_length=24, stride=6,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
    )  # fmt: skip
    windows = []
    for window, offsets in enumerate(encoded["offset_mapping"]):
        names = ("input_ids", "token_type_ids", "attention_mask")
        with torch.no_grad():
            output = tuned(**{name: torch.tensor([encoded[name][window]]) for name in names})
        starts, ends = output.start_logits[0].tolist(), output.end_logits[0].tolist()
        context = [token for token, part in enumerate(encoded.sequence_ids(window)) if part == 1]
        score, first, last = max((starts[i] + ends[j], i, j) for i in context for j in context if i <= j < i + 30)
        windows.append((score, question.context[offsets[first][0] : offsets[last][1]], starts[0] + ends[0]))
    return windows


@pytest.mark.parametrize("impossible", [0, 0.4])
def test_answers_are_the_best_of_all_windows_and_refused_by_the_lowest_null_score(
    tmp_path, teachers, monkeypatch, impossible
):
    """Like BERT's own evaluation on SQuAD 2. The head is random, so the best window and the null scores vary."""
    files = {use: write(tmp_path / use, 20, 0, impossible) for use in ("train", "test")}
    folder = teachers / "en-wordpiece"
    # Few windows fit in a batch, so those of a question are in several.
    config = evaluation(
        tmp_path, models={"m": {"model": str(folder)}}, question_answering={"en": files}, batch_tokens=64
    )
    model = load_model(config, "m")
    torch.manual_seed(3)
    tuned = model.with_head(AutoModelForQuestionAnswering, num_labels=2).eval()
    torch.nn.init.normal_(tuned.qa_outputs.weight)
    # Raises the null score, which is that of one token, to the level of the best of many spans.
    tuned.qa_outputs.register_forward_hook(
        lambda _module, _inputs, logits_BL2: torch.cat([logits_BL2[:, :1] + 4, logits_BL2[:, 1:]], dim=1)
    )
    monkeypatch.setattr(question_answering, "fine_tune", lambda *_: tuned)
    source = random.Random(0)
    questions = [
        Question("writes", " ".join(source.choices(NOUNS["en"] + VERBS["en"], k=source.randint(40, 60))), [])
        for _ in range(40)
    ]
    windows = [plain_windows(folder, tuned, question) for question in questions]
    best = [max(range(len(scored)), key=lambda window: scored[window][0]) for scored in windows]
    expected, refused_somewhere = [], []
    for scored, window in zip(windows, best, strict=True):
        score, text, _ = scored[window]
        nulls = [null for _, _, null in scored]
        expected.append("" if impossible and min(nulls) > score else text)
        refused_somewhere.append(max(nulls) > score)
    task = QuestionAnswering.from_config(config)
    assert task.fit(Job("question_answering", "m", "en", 0), model)("en", questions) == expected
    # The comparison shows little unless middle windows win, and windows disagree about refusing.
    assert all(len(scored) >= 3 for scored in windows)
    assert sum(0 < window < len(scored) - 1 for scored, window in zip(windows, best, strict=True)) > 10
    answered = sum(refused and text != "" for refused, text in zip(refused_somewhere, expected, strict=True))
    assert answered > 10 and (expected.count("") > 10) == bool(impossible)


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
