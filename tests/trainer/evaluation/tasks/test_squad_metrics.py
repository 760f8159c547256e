"""Metrics of answers."""

import pytest

from trainer.evaluation.tasks.squad_metrics import exact_match, f1


@pytest.mark.parametrize(
    ("given", "answers", "exact", "overlap"),
    [
        ("The Amazon River!", ["Amazon river"], 1, 1),
        ("the long river", ["river", "long sea river"], 0, 2 * 2 / 5),
        ("a sea", ["river"], 0, 0),
        ("river river", ["river"], 0, 2 / 3),
        ("", [], 1, 1),
        ("river", [], 0, 0),
        ("", ["river"], 0, 0),
        ("the", ["a"], 1, 1),
    ],
)
def test_answers_are_compared_as_squad_does(given, answers, exact, overlap):
    assert exact_match(given, answers) == exact
    assert f1(given, answers) == pytest.approx(overlap)
