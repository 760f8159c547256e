"""An evaluation from its configuration to its report."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from schemas.errors import UserError
from schemas.lock import owning
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.models import Model
from trainer.evaluation.store import Store, job_fingerprint
from trainer.evaluation.tasks.registry import TASKS
from trainer.evaluation.tasks.task import Job, Scores, Task


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
      tasks: by key, those that the configuration asks for.
      scores: of all jobs.
      seconds: that each job took when it was run, perhaps by an earlier command.
    """

    config: EvaluationConfig
    tasks: Mapping[str, Task]
    models: Mapping[str, Model]
    scores: Mapping[Job, list[Scores]]
    seconds: Mapping[Job, float] = field(default_factory=dict)


def run_evaluation(config: EvaluationConfig) -> Evaluation:
    """Runs all jobs that were not done yet.

    Raises:
      UserError: bad input. All files, tokenizers and labels are checked before a model runs.
    """
    tasks = {task.key: task for made in TASKS if (task := made.from_config(config))}
    if not tasks:
        raise UserError("nothing to evaluate on: give `text`, `tagging` or another task")
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )
    models = {name: Model(name, model, device) for name, model in config.models.items()}
    jobs = [
        (job, task)
        for name, model in config.models.items()
        for task in tasks.values()
        for job in task.jobs(name, model)
    ]
    _check(models, jobs)
    with owning(config.output):
        store = Store(config.output)
        scores, seconds = {}, {}
        bar = tqdm(jobs, desc=Path(config.output).name, unit="job")
        for job, task in bar:
            bar.set_postfix_str(f"{task.title}: {job.model}, {job.language}")
            model = models[job.model]
            fingerprint = job_fingerprint(task.fingerprint, model.fingerprint)
            kept = store.get(job, fingerprint)
            if kept is None:
                started = time.monotonic()
                kept = task.run(job, model)
                store.put(job, fingerprint, kept, time.monotonic() - started)
            scores[job], seconds[job] = kept, store.seconds(job)
    return Evaluation(config, tasks, models, scores, seconds)


def _check(models: Mapping[str, Model], jobs: list[tuple[Job, Task]]) -> None:
    """UserError for a model that cannot be loaded, or lacks a mask token that one of its tasks needs."""
    for name, model in models.items():
        model.transformers_config  # noqa: B018, raises where there is none
        needing = [task for job, task in jobs if job.model == name and task.needs_mask_token]
        if needing and model.tokenizer(None).mask_token_id is None:
            raise UserError(
                f"models.{name}: its tokenizer has no mask token, which {needing[0].title} needs; give a masked language "
                "model, or leave it out"
            )
    logging.getLogger(__name__).info("%d models, %d jobs", len(models), len(jobs))
