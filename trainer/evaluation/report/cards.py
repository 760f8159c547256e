"""Writes an evaluation's results into the model cards of students, as metadata that a hub reads."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from schemas.storage import write_bytes
from trainer.artifacts.model_card import TAG
from trainer.artifacts.teacher_cards import CARD_FILE
from trainer.evaluation.report.content import Content, ModelRecord, Result, TaskRecord
from trainer.evaluation.report.measurement import is_of
from trainer.evaluation.tasks.task import Metric

# The dataset's arguments that mark results of an earlier evaluation, which are replaced.
_MARK = {"evaluated_by": "mergedistill evaluate"}


def update_cards(content: Content) -> None:
    """Writes each model's results into the metadata of the README.md in its folder, if this trainer wrote that file.

    A folder may be that of several models, one for each of its tokenizers. Only metrics that rank models are results.
    Results and metrics from elsewhere and the text do not change.
    """
    by_folder: dict[Path, list[ModelRecord]] = defaultdict(list)
    for model in content.models:
        by_folder[Path(model.model)].append(model)
    for folder, models in by_folder.items():
        path = folder / CARD_FILE
        card = _card(path)
        if card is not None:
            data: Any = card.data
            earlier = data.eval_results or []
            kept = [result for result in earlier if result.dataset_args != _MARK]
            data.eval_results = kept + [result for model in models for result in _results(content, model)]
            data.model_name = data.model_name or folder.name
            data.metrics = _metrics(data.metrics, earlier, data.eval_results)
            write_bytes(str(path), str(card).encode())


def _card(path: Path) -> ModelCard | None:
    """Returns a card that this trainer wrote; None if there is no card, or someone else wrote it."""
    try:
        card = ModelCard.load(path)
    except Exception:  # A card with arbitrary YAML may raise anything.
        return None
    return card if TAG in (card.data.get("tags") or []) else None


def _metrics(listed: Any, earlier: list[EvalResult], current: list[EvalResult]) -> list[Any]:
    """Returns the metrics that the owner listed, which no earlier result explains, and those of the current results."""
    explained = {result.metric_type for result in earlier}
    owners = [
        metric for metric in (listed if isinstance(listed, list) else [listed]) if metric and metric not in explained
    ]
    return owners + [key for key in dict.fromkeys(result.metric_type for result in current) if key not in owners]


def _results(content: Content, model: ModelRecord) -> list[EvalResult]:
    return [
        _result(task, metric, result, _test_files(content, task, result.language), model.tokenizer == "default")
        for task in content.tasks
        for metric in task.metrics
        if metric.ranks
        for result in content.results
        if (result.task, result.metric, result.model) == (task.key, metric.key, model.name)
        and math.isfinite(result.value)
    ]


def _test_files(content: Content, task: TaskRecord, language: str) -> list[str]:
    return next(
        record.files["test"]
        for record in content.measurement.data
        if task.title in record.tasks and is_of(language, record.name)
    )


def _result(
    task: TaskRecord, metric: Metric, result: Result, files: Sequence[str], has_default_tokenizer: bool
) -> EvalResult:
    tokenizer = ", default tokenizer" if has_default_tokenizer else ""
    trained = f", trained on {result.trained_on}" if result.trained_on else ""
    return EvalResult(
        task_type=task.hub_task,
        task_name=task.title,
        dataset_type=_data(files),
        dataset_name=f"{_data(files)} ({result.language}{trained}{tokenizer})",
        dataset_config=f"{task.key}-{result.trained_on or result.language}-{result.language}{'-default' * has_default_tokenizer}",
        dataset_args=_MARK,
        metric_type=metric.key,
        metric_name=metric.title,
        metric_value=result.value,
    )


def _data(files: Sequence[str]) -> str:
    """Returns the names of files without their folders, which mean nothing to readers on a hub."""
    names = list(dict.fromkeys(PurePosixPath(file).name for file in files))
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
