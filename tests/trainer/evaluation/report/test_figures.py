"""Figures without intervals."""

import pytest

from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.figures import calibrations, costs, figures
from trainer.evaluation.report.training import training_lines
from trainer.evaluation.tasks.task import Job, Scores


def test_calibration_is_of_the_masked_task(tmp_path):
    evaluation = make_evaluation(tmp_path)
    made = {(c.model, c.language): c for c in calibrations(evaluation)}
    assert made.keys() == {(job.model, job.language) for job in evaluation.scores if job.task == "masked"}
    (scores,) = evaluation.scores[Job("masked", "student", "fi")]
    calibration = made["student", "fi"]
    assert calibration.ece == scores.figures["ece"]
    assert calibration.accuracies[:9] == [scores.figures[f"calibration_accuracy_{number}"] for number in range(9)]
    assert (calibration.counts[9], calibration.confidences[9], calibration.accuracies[9]) == (0, None, None)


def test_costs_are_means_over_languages_and_sums_of_seconds(tmp_path):
    evaluation = make_evaluation(tmp_path)
    for speed, language in enumerate(("de", "fi", "tr")):
        evaluation.scores[Job("cost", "student", language)][:] = [Scores(language, {}, {"tokens_per_second": speed})]
    _, _, student, _ = costs(evaluation, training_lines({"student": str(tmp_path / "student")}), {"student": 600})
    assert (student.tokens_per_second, student.parameters) == (1, None)
    # Three languages for each of three tasks, and for tagging with two seeds.
    assert student.evaluation_seconds == 12.5 * (3 * 3 + 3 * 2)
    assert (student.training_steps, student.training_tokens_per_second, student.exported_step) == (1000, 20550, 600)


def test_further_figures_are_averaged_over_seeds(tmp_path):
    evaluation = make_evaluation(tmp_path)
    for seed in (0, 1):
        evaluation.scores[Job("tagging", "student", "de", seed)][:] = [Scores("fi", {}, {"layer": 2.0 * seed})]
    (figure,) = (figure for figure in figures(evaluation) if figure.task == "tagging")
    assert (figure.key, figure.model, figure.trained_on, figure.language) == ("layer", "student", "de", "fi")
    assert figure.value == pytest.approx(1)
    assert {f.key for f in figures(evaluation)} == {"layer", "unknown_characters"}
