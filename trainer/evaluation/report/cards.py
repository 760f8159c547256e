"""Writes an evaluation's results into the model cards of students, as metadata that a hub reads."""

import math
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from schemas.storage import write_bytes
from trainer.artifacts.model_card import TAG
from trainer.artifacts.teacher_cards import CARD_FILE
from trainer.evaluation.report.content import Content, MetricRecord, Result, TaskRecord

# The dataset type that marks results of an earlier evaluation, which are replaced.
_DATA = "mergedistill-evaluation"


def update_cards(content: Content) -> None:
    """Writes each model's results into the metadata of the README.md in its folder, if this trainer wrote that file.

    Results from elsewhere and the text do not change.
    """
    for model in content.models:
        path = Path(model.model) / CARD_FILE
        card = _card(path)
        if card is not None:
            data: Any = card.data
            kept = [result for result in data.eval_results or [] if result.dataset_type != _DATA]
            data.eval_results = kept + _results(content, model.name)
            data.model_name = data.model_name or Path(model.model).name
            data.metrics = list(dict.fromkeys(result.metric_type for result in data.eval_results))
            write_bytes(str(path), str(card).encode())


def _card(path: Path) -> ModelCard | None:
    """Returns a card that this trainer wrote; None if there is no card, or someone else wrote it."""
    try:
        card = ModelCard.load(path)
    except Exception:  # A card with arbitrary YAML may raise anything.
        return None
    return card if TAG in (card.data.get("tags") or []) else None


def _results(content: Content, model: str) -> list[EvalResult]:
    return [
        _result(task, metric, result)
        for task in content.tasks
        for metric in task.metrics
        for result in content.results
        if (result.task, result.metric, result.model) == (task.key, metric.key, model) and math.isfinite(result.value)
    ]


def _result(task: TaskRecord, metric: MetricRecord, result: Result) -> EvalResult:
    trained = f", trained on {result.trained_on}" if result.trained_on else ""
    return EvalResult(
        task_type=task.hub_task,
        task_name=task.title,
        dataset_type=_DATA,
        dataset_name=f"{task.title}: {result.language}{trained}",
        dataset_config=f"{task.key}-{result.trained_on or result.language}-{result.language}",
        metric_type=metric.key,
        metric_name=metric.title,
        metric_value=result.value,
    )
