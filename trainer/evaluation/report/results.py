"""The results of models, with intervals, and comparisons of students with their teachers."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from trainer.evaluation.report.content import STUDENT_BETTER, TEACHER_BETTER, UNCLEAR, Comparison, Result
from trainer.evaluation.run import Evaluation
from trainer.evaluation.statistics import interval, mean_over_seeds, paired
from trainer.evaluation.tasks.task import Metric, Ratio, Scores

# For all resamplings, so that the same scores give the same report.
_SEED = 0


class Tested(NamedTuple):
    """The test data on which figures are compared: one task, after training on the same labels."""

    task: str
    trained_on: str | None
    language: str


class Average(NamedTuple):
    """A model's ratio, averaged over seeds.

    Attributes:
      seed_values: the value of each run.
      questions: as in `Scores`.
    """

    ratio: Ratio
    seed_values: list[float]
    questions: str | None


class Averages:
    """The ratios of an evaluation, averaged over seeds."""

    def __init__(self, evaluation: Evaluation):
        runs: dict[tuple[Tested, str], dict[str, list[Scores]]] = defaultdict(lambda: defaultdict(list))
        for job, scored in evaluation.scores.items():
            for scores in scored:
                data = Tested(job.task, evaluation.tasks[job.task].trained_on(job), scores.language)
                for key in scores.ratios:
                    runs[data, key][job.model].append(scores)
        self._averages: Mapping[tuple[Tested, str], Mapping[str, Average]] = {
            (data, key): {model: _average(key, scored) for model, scored in by_model.items()}
            for (data, key), by_model in runs.items()
        }
        self._evaluation = evaluation

    def __iter__(self) -> Iterator[tuple[Tested, Metric, Mapping[str, Average]]]:
        """Iterates in the order of tasks, metrics and languages; models are in the order of the configuration."""
        for task in self._evaluation.tasks.values():
            for metric in task.metrics:
                for (data, key), by_model in self._averages.items():
                    if (data.task, key) == (task.key, metric.key):
                        yield (
                            data,
                            metric,
                            {name: by_model[name] for name in self._evaluation.models if name in by_model},
                        )


def results(averages: Averages, samples: int) -> list[Result]:
    """Returns all results, with the best on each test data marked.

    Args:
      samples: the number of resamplings behind an interval.
    """
    rows = []
    for data, metric, by_model in averages:
        best = _best(metric, by_model, samples)
        for model, (ratio, seed_values, _) in by_model.items():
            units = len(ratio.numerators_U)
            low, high = interval(ratio, samples, _SEED) if units else (float("nan"), float("nan"))
            rows.append(
                Result(
                    data.task,
                    metric.key,
                    model,
                    data.trained_on,
                    data.language,
                    ratio.value,
                    low,
                    high,
                    units,
                    len(seed_values),
                    seed_values,
                    is_best=model == best,
                )
            )
    return rows


def comparisons(averages: Averages, teachers: Mapping[str, Mapping[str, str]], samples: int) -> list[Comparison]:
    """Compares each student with the teacher of the language that it was trained or scored on, by the metrics that rank.

    Retrieval is left out: its two languages have no teacher in common.

    Args:
      teachers: by model and language.
    """
    rows = []
    for data, metric, by_model in averages:
        for student, average in by_model.items() if metric.ranks else ():
            teacher = teachers[student].get(data.trained_on or data.language)
            if teacher is not None and teacher in by_model:
                figures = _difference(metric, average, by_model[teacher], samples)
                rows.append(
                    Comparison(data.task, metric.key, student, teacher, data.trained_on, data.language, *figures)
                )
    return rows


def _average(key: str, scored: list[Scores]) -> Average:
    # All runs of a model on the same data have the same questions.
    ratios = [scores.ratios[key] for scores in scored]
    return Average(mean_over_seeds(ratios), [ratio.value for ratio in ratios], scored[0].questions)


def _difference(
    metric: Metric, student: Average, teacher: Average, samples: int
) -> tuple[float | None, float | None, float | None, float | None, str]:
    """Returns the last fields of a `Comparison`."""
    if reason := _incomparable(student, teacher):
        return None, None, None, None, reason
    difference = paired(student.ratio, teacher.ratio, samples, _SEED)
    verdict = UNCLEAR
    if difference.is_clear:
        verdict = STUDENT_BETTER if (difference.value > 0) == metric.higher_is_better else TEACHER_BETTER
    return difference.value, difference.low, difference.high, difference.p, verdict


def _best(metric: Metric, by_model: Mapping[str, Average], samples: int) -> str | None:
    """Returns the model that is significantly better than all others; None if there is none.

    All paired tests must reject, so their number needs no correction (an intersection-union test, Berger 1982).
    """
    values = {model: value for model, average in by_model.items() if np.isfinite(value := average.ratio.value)}
    if len(values) < 2 or not metric.ranks:
        return None
    best = (max if metric.higher_is_better else min)(values, key=values.__getitem__)
    for model in values.keys() - {best}:
        if _incomparable(by_model[best], by_model[model]):
            return None
        if not paired(by_model[best].ratio, by_model[model].ratio, samples, _SEED).is_clear:
            return None
    return best


def _incomparable(first: Average, second: Average) -> str:
    """Returns why two models' figures on the same data cannot be compared; empty if they can."""
    if len(first.ratio.numerators_U) != len(second.ratio.numerators_U):
        return "not compared: the models were scored on different pieces of the text"
    if not len(first.ratio.numerators_U):
        return "not compared: nothing was scored"
    if first.questions != second.questions:
        return "not compared: the models cut the text into different tokens"
    return ""
