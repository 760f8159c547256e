"""From an evaluation to what a report says."""

from pathlib import Path

from schemas.errors import printable
from schemas.paths import local_path
from schemas.secrets import without_secrets
from schemas.storage import join
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary
from trainer.evaluation.report.content import Content, HeatMap, MetricRecord, ModelRecord, TaskRecord
from trainer.evaluation.report.figures import calibrations, costs, figures
from trainer.evaluation.report.heat_maps import merged_overlap, overlap, transfer
from trainer.evaluation.report.results import Averages, comparisons, results
from trainer.evaluation.report.training import curves, reaches, training_lines
from trainer.evaluation.run import Evaluation


def content_of(evaluation: Evaluation) -> Content:
    """All that is known; parts that need what was not evaluated are empty."""
    config = evaluation.config
    tasks = [
        TaskRecord(
            task.key,
            task.title[:1].upper() + task.title[1:],
            task.hub_task,
            [MetricRecord(m.key, m.title, m.higher_is_better, m.ranks) for m in task.metrics],
        )
        for task in evaluation.tasks.values()
    ]
    averages = Averages(evaluation)
    reached = results(averages, config.bootstrap_samples)
    lines = training_lines({name: folder for name, model in config.models.items() if (folder := _folder(model.model))})
    all_curves = curves(lines)
    return Content(
        title=printable(Path(config.output).resolve().name),
        models=[
            ModelRecord(
                name,
                printable(without_secrets(m.model)),
                m.revision,
                len(evaluation.models[name].tokenizer(None)),
                m.languages,
                m.teachers,
            )
            for name, m in config.models.items()
        ],
        tasks=tasks,
        results=reached,
        figures=figures(evaluation),
        comparisons=comparisons(
            averages, {name: m.teachers for name, m in config.models.items()}, config.bootstrap_samples
        ),
        curves=all_curves,
        reaches=reaches(all_curves),
        transfer=transfer(tasks, list(config.models), reached),
        overlap=_overlap(evaluation),
        calibration=calibrations(evaluation),
        costs=costs(evaluation, lines),
    )


def _overlap(evaluation: Evaluation) -> list[HeatMap]:
    maps = []
    if len(evaluation.models) > 1:
        tokens = {name: model.tokenizer(None).get_vocab().keys() for name, model in evaluation.models.items()}
        maps.append(overlap(tokens))
    for name, model in evaluation.config.models.items():
        folder = _folder(model.model)
        if folder and (Path(folder) / VOCABULARY_FILE).is_file():
            vocabulary = read_vocabulary(join(folder, VOCABULARY_FILE))
            if len(vocabulary.teacher_ids) > 1:
                maps.append(merged_overlap(name, vocabulary))
    return maps


def _folder(model: str) -> str | None:
    """The local folder of a model; None if it is on a hub."""
    path = local_path(model)
    return path if path and Path(path).is_dir() else None
