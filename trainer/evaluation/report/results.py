"""What models reached, with intervals, and students against their teachers."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from trainer.evaluation.report.content import Comparison, Result
from trainer.evaluation.run import Evaluation
from trainer.evaluation.statistics import interval, mean_over_seeds, paired
from trainer.evaluation.tasks.task import Metric, Ratio

# Tasks that train a model, on the labels of one language.
TRAINED = frozenset({"tagging_probe", "tagging", "entities", "classification", "question_answering"})
# Tasks whose units have as many tokens as a model's tokenizer makes of them.
_PER_TOKEN = frozenset({"masked"})
# A figure is marked as the best if chance would give such a difference less often than this.
_SIGNIFICANCE = 0.05
# Of all resamplings: a report of the same scores is the same.
_SEED = 0


class Tested(NamedTuple):
    """What figures are compared on: of one task, after training on the same labels."""

    task: str
    trained_on: str | None
    language: str


class Averages:
    """The ratios of an evaluation, averaged over seeds.

    Attributes:
      ratios: by test data and metric, then by model.
      seeds: by test data, then by model, how many runs were averaged.
    """

    def __init__(self, evaluation: Evaluation):
        runs: dict[tuple[Tested, str], dict[str, list[Ratio]]] = defaultdict(lambda: defaultdict(list))
        for job, scored in evaluation.scores.items():
            for scores in scored:
                data = Tested(job.task, job.language if job.task in TRAINED else None, scores.language)
                for key, ratio in scores.ratios.items():
                    runs[data, key][job.model].append(ratio)
        self.ratios: Mapping[tuple[Tested, str], Mapping[str, Ratio]] = {
            key: {model: mean_over_seeds(ratios) for model, ratios in by_model.items()}
            for key, by_model in runs.items()
        }
        self.seeds = {key: {model: len(ratios) for model, ratios in by_model.items()} for key, by_model in runs.items()}
        self._evaluation = evaluation

    def __iter__(self) -> Iterator[tuple[Tested, Metric, Mapping[str, Ratio]]]:
        """In the order of tasks, metrics and languages; models in the order of the configuration."""
        for task in self._evaluation.tasks.values():
            for metric in task.metrics:
                for (data, key), by_model in self.ratios.items():
                    if (data.task, key) == (task.key, metric.key):
                        yield (
                            data,
                            metric,
                            {name: by_model[name] for name in self._evaluation.models if name in by_model},
                        )


def results(averages: Averages, samples: int) -> list[Result]:
    """All results, the best of their test data marked.

    Args:
      samples: resamplings behind an interval.
    """
    rows = []
    for data, metric, by_model in averages:
        best = _best(data, metric, by_model, samples)
        for model, ratio in by_model.items():
            units = len(ratio.numerators_U)
            low, high = interval(ratio, samples, _SEED) if units else (float("nan"), float("nan"))
            seeds = averages.seeds[data, metric.key][model]
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
                    seeds,
                    is_best=model == best,
                )
            )
    return rows


def comparisons(averages: Averages, teachers: Mapping[str, Mapping[str, str]], samples: int) -> list[Comparison]:
    """Each student against the teacher of the language that it was trained or scored on.

    Args:
      teachers: by model and language.
    """
    rows = []
    for data, metric, by_model in averages:
        for student, ratio in by_model.items():
            teacher = teachers[student].get(data.trained_on or data.language)
            if teacher is not None and teacher in by_model:
                figures = _difference(data, metric, ratio, by_model[teacher], samples)
                rows.append(
                    Comparison(data.task, metric.key, student, teacher, data.trained_on, data.language, *figures)
                )
    return rows


def _difference(
    data: Tested, metric: Metric, student: Ratio, teacher: Ratio, samples: int
) -> tuple[float | None, float | None, float | None, float | None, str]:
    """The last fields of a `Comparison`."""
    if reason := _incomparable(data, student, teacher):
        return None, None, None, None, reason
    difference, (low, high), p = paired(student, teacher, samples, _SEED)
    # The interval alone is too narrow where there are few units.
    if (low > 0 or high < 0) and p < _SIGNIFICANCE:
        verdict = "student is better" if (difference > 0) == metric.higher_is_better else "teacher is better"
    else:
        verdict = "no clear difference"
    return difference, low, high, p, verdict


def _best(data: Tested, metric: Metric, by_model: Mapping[str, Ratio], samples: int) -> str | None:
    """The model that is significantly better than all others; None where there is none.

    All of the paired tests have to reject, so no correction for their number is due (an intersection-union test, Berger 1982).
    """
    values = {model: ratio.value for model, ratio in by_model.items() if np.isfinite(ratio.value)}
    if len(values) < 2:
        return None
    best = (max if metric.higher_is_better else min)(values, key=values.__getitem__)
    for model in values.keys() - {best}:
        if _incomparable(data, by_model[best], by_model[model]):
            return None
        _, (low, high), p = paired(by_model[best], by_model[model], samples, _SEED)
        if p >= _SIGNIFICANCE or low <= 0 <= high:
            return None
    return best


def _incomparable(data: Tested, first: Ratio, second: Ratio) -> str:
    """Why two models' figures on the same data cannot be compared; empty if they can."""
    if len(first.numerators_U) != len(second.numerators_U):
        return "not compared: the models were scored on different pieces of the text"
    if not len(first.numerators_U):
        return "not compared: there is nothing that was scored"
    if data.task in _PER_TOKEN and not np.array_equal(first.denominators_U, second.denominators_U):
        return "not compared: the models cut the text into different tokens"
    return ""
