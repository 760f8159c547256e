"""Results and comparisons, compared with figures that are computed here."""

from collections.abc import Mapping

import numpy as np
import pytest

from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.results import Averages, comparisons, results
from trainer.evaluation.run import Evaluation
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores


class NamedTask:
    def __init__(self, key: str, higher_is_better: bool = True, ranks: bool = True):
        self.key, self.title, self.metrics = key, key, (Metric("m", "m", higher_is_better, ranks),)

    def trained_on(self, job):
        return None


def made(task: NamedTask, by_model: Mapping[str, tuple], questions: Mapping[str, str] = {}) -> Averages:
    """The averages of one test set, with numerators and denominators given for each model."""
    scores = {
        Job(task.key, model, "de"): [
            Scores("de", {"m": Ratio(*(np.array(part, float) for part in parts))}, questions=questions.get(model))
        ]
        for model, parts in by_model.items()
    }
    return Averages(Evaluation(None, {task.key: task}, dict.fromkeys(by_model), scores))


def compared(averages: Averages):
    (comparison,) = comparisons(averages, {"a": {"de": "b"}, "b": {}}, 500)
    return comparison


ONES = np.ones(40)


def test_seeds_are_averaged(tmp_path):
    evaluation = make_evaluation(tmp_path)
    rows = results(Averages(evaluation), 100)
    (row,) = (r for r in rows if (r.task, r.model, r.trained_on, r.language) == ("tagging", "student", "de", "fi"))
    runs = [
        scores.ratios["accuracy"].value
        for seed in (0, 1)
        for scores in evaluation.scores[Job("tagging", "student", "de", seed)]
        if scores.language == "fi"
    ]
    assert row.value == pytest.approx(np.mean(runs)) and row.seeds == 2 and row.units == 120
    assert row.seed_values == runs
    assert all(r.seed_values == [pytest.approx(r.value)] for r in rows if r.task != "tagging")
    assert row.low < row.value < row.high
    # No other task trains a model.
    assert {r.task for r in rows if r.trained_on} == {"tagging"}


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_best_is_marked_only_where_it_is_clearly_better(higher_is_better):
    task = NamedTask("t", higher_is_better)
    right, wrong = (ONES, ONES * 0) if higher_is_better else (ONES * 0, ONES)
    half = np.arange(40) % 2
    assert [r.is_best for r in results(made(task, {"a": (right, ONES), "b": (wrong, ONES)}), 500)] == [True, False]
    assert not any(r.is_best for r in results(made(task, {"a": (half, ONES), "b": (1 - half, ONES)}), 500))
    # It is better than one model, but not than the other.
    three = {"a": (right, ONES), "b": (wrong, ONES), "c": (right, ONES)}
    assert not any(r.is_best for r in results(made(task, three), 500))
    assert not any(r.is_best for r in results(made(task, {"a": (right, ONES)}), 500))


@pytest.mark.parametrize(("higher_is_better", "verdict"), [(True, "student is better"), (False, "teacher is better")])
def test_a_student_against_its_teacher(higher_is_better, verdict):
    task = NamedTask("t", higher_is_better)
    comparison = compared(made(task, {"a": (ONES, ONES), "b": (ONES * 0, ONES)}))
    assert (comparison.student, comparison.teacher, comparison.language) == ("a", "b", "de")
    assert (comparison.difference, comparison.low, comparison.high) == (1, 1, 1)
    assert comparison.p < 0.01 and comparison.verdict == verdict


def test_no_clear_difference():
    half = np.arange(40) % 2
    comparison = compared(made(NamedTask("t"), {"a": (half, ONES), "b": (1 - half, ONES)}))
    assert comparison.verdict == "no clear difference" and comparison.low < 0 < comparison.high and comparison.p > 0.05


def test_only_answers_to_the_same_questions_are_compared():
    """The same number of answers is not enough."""
    parts = {"a": (ONES, ONES), "b": (ONES * 0, ONES)}
    averages = made(NamedTask("t"), parts, {"a": "these", "b": "those"})
    comparison = compared(averages)
    assert comparison.verdict == "not compared: the models cut the text into different tokens"
    assert (comparison.difference, comparison.low, comparison.high, comparison.p) == (None, None, None, None)
    assert not any(r.is_best for r in results(averages, 500))
    assert compared(made(NamedTask("t"), parts, {"a": "these", "b": "these"})).verdict == "student is better"
    # F1 has different denominators for each model.
    assert compared(made(NamedTask("t"), parts | {"b": (ONES * 0, ONES * 2)})).verdict == "student is better"


def test_what_only_describes_has_no_best_and_no_verdict():
    averages = made(NamedTask("t", ranks=False), {"a": (ONES, ONES), "b": (ONES * 0, ONES)})
    assert not any(r.is_best for r in results(averages, 500))
    assert comparisons(averages, {"a": {"de": "b"}, "b": {}}, 500) == []


def test_other_units_are_not_compared():
    averages = made(NamedTask("t"), {"a": (ONES, ONES), "b": (ONES[1:], ONES[1:])})
    assert "different pieces" in compared(averages).verdict
    assert not any(r.is_best for r in results(averages, 500))


def test_nothing_that_was_scored_is_no_number():
    averages = made(NamedTask("t"), {"a": ([], []), "b": ([], [])})
    assert all(np.isnan([r.value, r.low, r.high]).all() and not r.is_best for r in results(averages, 100))
    assert "nothing" in compared(averages).verdict
