"""Collects the content of a report from an evaluation."""

from pathlib import Path

from schemas.errors import printable
from schemas.paths import local_path
from schemas.secrets import without_secrets
from schemas.storage import join
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.report.content import Content, HeatMap, ModelRecord, TaskRecord
from trainer.evaluation.report.figures import calibrations, costs, figures
from trainer.evaluation.report.heat_maps import merged_overlaps, overlap, transfer
from trainer.evaluation.report.measurement import measurement
from trainer.evaluation.report.results import Averages, comparisons, results
from trainer.evaluation.report.training import curves, exported_steps, reaches, training_lines
from trainer.evaluation.run import Evaluation


def content_of(evaluation: Evaluation) -> Content:
    """Returns the content of the report; parts without results are empty."""
    config = evaluation.config
    tasks = [
        TaskRecord(
            task.key,
            task.title[:1].upper() + task.title[1:],
            task.hub_task,
            task.unit,
            list(task.metrics),
        )
        for task in evaluation.tasks.values()
    ]
    averages = Averages(evaluation)
    reached = results(averages, config.bootstrap_samples)
    lines, exported = training_lines(_folders(config)), exported_steps(_folders(config))
    all_curves = curves(lines, config.languages)
    return Content(
        title=printable(config.title or Path(config.output).resolve().name),
        languages=config.languages,
        measurement=measurement(evaluation, tasks, reached),
        models=[_model(evaluation, name) for name in config.models],
        tasks=tasks,
        results=reached,
        figures=figures(evaluation),
        comparisons=comparisons(
            averages, {name: m.teachers for name, m in config.models.items()}, config.bootstrap_samples
        ),
        curves=all_curves,
        reaches=reaches(all_curves, exported),
        transfer=transfer(tasks, list(config.models), reached),
        overlap=_overlap(evaluation),
        calibration=calibrations(evaluation),
        costs=costs(evaluation, lines, exported),
    )


def check_folders(config: EvaluationConfig) -> None:
    """Checks the merged vocabularies in the folders of models before the report reads them. UserError names a bad file."""
    for folder in _folders(config).values():
        _vocabulary(folder)


def _model(evaluation: Evaluation, name: str) -> ModelRecord:
    config, model = evaluation.config.models[name], evaluation.models[name]
    jobs = [job for job in evaluation.scores if job.model == name]
    languages = {language for job in jobs for language in evaluation.tasks[job.task].languages(job)}
    has_several = config.tokenizer == "default" or model.tokenizer_languages
    return ModelRecord(
        name,
        printable(without_secrets(config.model)),
        config.revision,
        len(model.tokenizer(None)),
        config.tokenizer if has_several else "only one",
        sorted(model.read_with_default(languages)),
        config.languages,
        config.teachers,
    )


def _overlap(evaluation: Evaluation) -> list[HeatMap]:
    maps = []
    if len(evaluation.models) > 1:
        tokens = {name: model.tokenizer(None).get_vocab().keys() for name, model in evaluation.models.items()}
        maps.append(overlap(tokens))
    vocabularies = {name: _vocabulary(folder) for name, folder in _folders(evaluation.config).items()}
    return maps + merged_overlaps(
        {name: known for name, known in vocabularies.items() if known and len(known.teacher_ids) > 1}
    )


def _vocabulary(folder: str) -> Vocabulary | None:
    """Returns the merged vocabulary in the folder of a model, if there is one."""
    file = join(folder, VOCABULARY_FILE)
    return read_vocabulary(file) if Path(file).is_file() else None


def _folders(config: EvaluationConfig) -> dict[str, str]:
    """Returns the folders of local models, by name."""
    paths = {name: local_path(model.model) for name, model in config.models.items()}
    return {name: path for name, path in paths.items() if path and Path(path).is_dir()}
