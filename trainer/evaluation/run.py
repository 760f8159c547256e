"""Runs the jobs of an evaluation."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from schemas.lock import owning
from trainer.evaluation.checks import check_candidate, check_model
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.devices import device_of
from trainer.evaluation.models import Model
from trainer.evaluation.store import Kept, Store, job_fingerprint
from trainer.evaluation.tasks.registry import tasks_of
from trainer.evaluation.tasks.task import Job, Scores, Task


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
      tasks: by key, those that the configuration asks for.
      scores: of all jobs.
      seconds: the time that each job took when it ran, perhaps in an earlier command.
    """

    config: EvaluationConfig
    tasks: Mapping[str, Task]
    models: Mapping[str, Model]
    scores: Mapping[Job, list[Scores]]
    seconds: Mapping[Job, float] = field(default_factory=dict)


def run_evaluation(config: EvaluationConfig) -> Evaluation:
    """Runs all jobs that are not done yet, one model after another.

    Raises:
      UserError: bad input. All files, labels, models and tokenizers are checked before a model runs.
    """
    device = device_of(config.device)
    tasks = tasks_of(config)
    models = {name: Model(name, model, device) for name, model in config.models.items()}
    jobs = {
        name: [(job, task) for task in tasks.values() for job in task.jobs(name, model)]
        for name, model in config.models.items()
    }
    for name, model in models.items():
        check_model(model, jobs[name])
        if config.comparison and name in config.candidates:
            check_candidate(model)
    scores, seconds = {}, {}
    with owning(config.output), tqdm(total=sum(map(len, jobs.values())), unit="job") as bar:
        bar.set_description(Path(config.output).name)
        store = Store(config.output)
        for name, model in models.items():
            for job, task in jobs[name]:
                bar.set_postfix_str(f"{task.title}: {name}, {job.language}")
                scores[job], seconds[job] = _done(store, job, task, model)
                bar.update()
            model.unload()
    return Evaluation(config, tasks, models, scores, seconds)


def _done(store: Store, job: Job, task: Task, model: Model) -> Kept:
    """Returns the stored scores of a job; runs it first if there are none."""
    fingerprint = job_fingerprint(task.fingerprint(job), model.fingerprint)
    kept = store.get(job, fingerprint)
    if kept is None:
        started = time.monotonic()
        kept = Kept(task.run(job, model), time.monotonic() - started)
        store.put(job, fingerprint, kept)
    return kept
