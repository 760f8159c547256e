"""What an evaluation measured, and how: files, counts, settings and versions."""

from collections.abc import Sequence
from importlib.metadata import version

from schemas import __version__
from schemas.errors import printable
from schemas.secrets import without_secrets
from trainer.evaluation.devices import device_title
from trainer.evaluation.report.content import DataRecord, Measurement, Result, TaskRecord
from trainer.evaluation.run import Evaluation
from trainer.evaluation.statistics import LEVEL, SIGNIFICANCE
from trainer.evaluation.tasks.task import Task, TaskFiles

_LIBRARIES = ("torch", "transformers")


def measurement(evaluation: Evaluation, tasks: Sequence[TaskRecord], results: Sequence[Result]) -> Measurement:
    """Returns the settings that decide the figures, and the data behind them."""
    config = evaluation.config
    is_trained = any(result.trained_on for result in results)
    is_repeated = any(job.seed is not None for job in evaluation.scores)
    return Measurement(
        data=_data(evaluation, tasks, results),
        max_length=config.max_length,
        top_k=config.top_k,
        fine_tuning=config.fine_tuning.model_dump() if is_trained else None,
        seeds=config.seeds if is_repeated else [],
        bootstrap_samples=config.bootstrap_samples,
        confidence_level=LEVEL,
        significance=SIGNIFICANCE,
        versions={"mergedistill": __version__, **{name: version(name) for name in _LIBRARIES}},
        # All models run on the same device.
        device=device_title(next(iter(evaluation.models.values())).device),
    )


def _data(evaluation: Evaluation, tasks: Sequence[TaskRecord], results: Sequence[Result]) -> list[DataRecord]:
    """Returns one record for each section and language: tasks of the same section read the same files."""
    titles = {task.key: task.title for task in tasks}
    by_section: dict[str, list[Task]] = {}
    for task in evaluation.tasks.values():
        by_section.setdefault(task.section, []).append(task)
    return [
        _record(of_section, [titles[task.key] for task in of_section], files, results)
        for of_section in by_section.values()
        for files in of_section[0].files()
    ]


def _record(tasks: list[Task], titles: list[str], task_files: TaskFiles, results: Sequence[Result]) -> DataRecord:
    keys = {task.key for task in tasks}
    tested = [r.units for r in results if r.task in keys and is_of(r.language, task_files.name)]
    return DataRecord(
        tasks[0].section,
        titles,
        task_files.name,
        tasks[0].unit,
        {use: [printable(without_secrets(file)) for file in files] for use, files in task_files.files.items()},
        task_files.units | ({"test": max(tested)} if tested else {}),
    )


def is_of(language: str, name: str) -> bool:
    """Whether a result's language is that of a task's files; in retrieval, it begins with the name of the pair."""
    return language == name or language.startswith(f"{name}: ")
