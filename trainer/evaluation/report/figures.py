"""Figures without intervals: calibration, and the costs of models."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping

from trainer.evaluation.report.content import Calibration, Cost, Figure
from trainer.evaluation.report.training import Line, speed
from trainer.evaluation.run import Evaluation
from trainer.evaluation.tasks.task import Scores

_BINS = 10
_COST, _ECE = "cost", "ece"


def figures(evaluation: Evaluation) -> list[Figure]:
    """Returns all figures except those of `Calibration` and `Cost`, by task, key, language and model."""
    runs: dict[tuple[str, str, str | None, str, str], list[float]] = defaultdict(list)
    for job, scored in evaluation.scores.items():
        for scores in scored if job.task != _COST else ():
            for key, value in scores.figures.items():
                if key != _ECE and not key.startswith("calibration_"):
                    trained_on = evaluation.tasks[job.task].trained_on(job)
                    runs[job.task, key, trained_on, scores.language, job.model].append(value)
    return [
        Figure(task, key, model, trained_on, language, statistics.fmean(values))
        for (task, key, trained_on, language, model), values in runs.items()
    ]


def calibrations(evaluation: Evaluation) -> list[Calibration]:
    """Returns the calibration of all models and languages whose masked tokens were scored."""
    return [
        _calibration(job.model, scores)
        for job, scored in evaluation.scores.items()
        if job.task == "masked"
        for scores in scored
        if _ECE in scores.figures
    ]


def costs(evaluation: Evaluation, lines_by_model: Mapping[str, list[Line]], exported: Mapping[str, int]) -> list[Cost]:
    """Returns the costs of models; figures that were measured on several languages are averaged.

    Args:
      lines_by_model: the metrics of the models that this trainer trained.
      exported: the steps of their weights.
    """
    made = []
    for model in evaluation.models:
        jobs = [job for job in evaluation.scores if job.model == model]
        measured = [scores.figures for job in jobs if job.task == _COST for scores in evaluation.scores[job]]
        lines = lines_by_model.get(model, [])
        made.append(
            Cost(
                model,
                parameters=_mean(measured, "parameters"),
                encoder_parameters=_mean(measured, "encoder_parameters"),
                tokens_per_second=_mean(measured, "tokens_per_second"),
                peak_memory_mib=_mean(measured, "peak_memory_mib"),
                evaluation_seconds=sum(evaluation.seconds.get(job, 0.0) for job in jobs),
                training_steps=max((line.step for line in lines), default=None),
                exported_step=exported.get(model),
                training_tokens_per_second=speed(lines),
            )
        )
    return made


def _calibration(model: str, scores: Scores) -> Calibration:
    counts = [scores.figures.get(f"calibration_count_{number}", 0.0) for number in range(_BINS)]
    confidences, accuracies = (
        [_known(scores.figures.get(f"calibration_{key}_{n}")) if counts[n] else None for n in range(_BINS)]
        for key in ("confidence", "accuracy")
    )
    return Calibration(model, scores.language, scores.figures[_ECE], counts, confidences, accuracies)


def _mean(measured: list[dict[str, float]], key: str) -> float | None:
    values = [figures[key] for figures in measured if key in figures]
    return statistics.fmean(values) if values else None


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
