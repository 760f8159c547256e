"""The training loop."""

import gc
import json
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import torch

from schemas.errors import UserError, differences
from schemas.lock import owning
from schemas.predictions import Predictions
from schemas.process import deferring
from schemas.storage import join, read_bytes, write_bytes
from trainer.artifacts.checkpoint import CheckpointWriter, remove_partial
from trainer.artifacts.export import export_checkpoint, read_export
from trainer.artifacts.metrics import Metrics
from trainer.config import TrainerConfig
from trainer.distributed import Runtime
from trainer.loop.due import due_after
from trainer.loop.evaluate import evaluate, format_scores
from trainer.loop.prepare import prepare
from trainer.loop.skipped_steps import SkippedSteps
from trainer.loop.state import TrainState
from trainer.loop.step import train_step

RUN_FILE = "run.json"

logger = logging.getLogger(__name__)


class Interrupted(Exception):
    """The run was asked to end (SIGTERM, SIGHUP) and has saved a checkpoint."""


def train(config: TrainerConfig, runtime: Runtime) -> None:
    """Trains, or resumes from the newest checkpoint, with evaluations; then exports the student.

    Raises:
      UserError: the configuration does not fit the predictions; this is checked before training.
      Interrupted: SIGTERM or SIGHUP came; the same command resumes.
    """
    # The other processes wait for the main one at the first barrier.
    with owning(config.output) if runtime.is_main else nullcontext():
        _train_owned(config, runtime)


def _train_owned(config: TrainerConfig, runtime: Runtime) -> None:
    runtime.barrier()
    if runtime.is_main:
        remove_partial(config.output)
    state = prepare(config, runtime)
    with closing(state.reader):
        state.resume()
        if runtime.is_main:
            _claim_output(state)
        if state.is_over and _is_exported(state):
            logger.info("%s: finished at step %d, nothing to do", config.output, state.step)
            return
        _train_to_the_end(state)
    if runtime.is_main:
        _export(state)
    runtime.barrier()


def _claim_output(state: TrainState) -> None:
    """Records the run that owns the output folder. Raises UserError if another run without a checkpoint began there."""
    path = join(state.config.output, RUN_FILE)
    # The configured value, because the default depends on the number of processes when the run takes its first step.
    claim = state.run_spec | {"micro_batches": state.config.micro_batches}
    if not state.step and Path(path).exists():
        try:
            earlier = json.loads(read_bytes(path))
        except ValueError:
            raise UserError(f"{path}: is not JSON; remove it, or choose another output") from None
        if changed := differences(earlier, claim):
            raise UserError(
                f"{state.config.output}: holds another run ({changed}); remove the folder or choose another output"
            )
    write_bytes(path, json.dumps(claim, indent=2).encode() + b"\n")


def _train_to_the_end(state: TrainState) -> None:
    config, runtime = state.config, state.runtime
    metrics = Metrics(config, state.reader.languages, state.step, runtime)
    writer = CheckpointWriter(config.output, config.save_total_limit, runtime.is_main)
    with closing(metrics), closing(writer) as checkpoints, _long_lived_uncollected():
        with deferring((signal.SIGTERM, signal.SIGHUP)) as signals:
            _train_steps(state, metrics, checkpoints, signals)


@contextmanager
def _long_lived_uncollected() -> Iterator[None]:
    """Keeps existing objects out of garbage collections, because they live as long as the run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _train_steps(state: TrainState, metrics: Metrics, checkpoints: CheckpointWriter, signals: list[int]) -> None:
    """Trains to the last step. If `signals` has any, saves a checkpoint and raises Interrupted."""
    skipped = SkippedSteps(state.config.max_skipped_steps, state.skipped_steps, state.runtime)
    reader = iter(state.reader)
    state.learner.student.train()
    if state.heldout and state.lacks_evaluation:
        # The run was asked to end before this evaluation, or the held-out text is different now.
        _evaluate(state, state.heldout, metrics)
        state.save(checkpoints)
    while not state.is_over:
        before = time.monotonic()
        batches = dict(zip(state.reader.local_lanes, next(reader), strict=True))
        metrics.waited(time.monotonic() - before)
        # Also sum over processes whether any was asked to end, so that all of them end at the same step.
        local_positions = sum(len(batch.labels_M) for batch in batches.values())
        positions, asked_to_end = state.runtime.all_reduce(torch.tensor([local_positions, len(signals)])).tolist()
        train_step(state.learner, state.step + 1, batches, positions, metrics, skipped)
        state.step += 1
        _do_what_is_due(state, bool(asked_to_end), metrics, skipped, checkpoints)


def _do_what_is_due(
    state: TrainState, asked_to_end: bool, metrics: Metrics, skipped: SkippedSteps, checkpoints: CheckpointWriter
) -> None:
    """Logs, evaluates and saves after a step. Raises Interrupted if the run was asked to end."""
    config, learner, step = state.config, state.learner, state.step
    due = due_after(step, config, asked_to_end)
    if due.log or due.evaluate or due.save:
        skipped.check()
        state.skipped_steps = skipped.count
    if due.log:
        rate, kd_weights = float(learner.scheduler.get_last_lr()[0]), learner.kd_weights(step)
        metrics.log(step, rate, kd_weights, skipped.count, _of_stage(state))
    if due.save:
        # Before an evaluation, so that a run that ends during it loses no steps.
        state.save(checkpoints)
    if state.heldout and due.evaluate:
        _evaluate(state, state.heldout, metrics)
        if due.save or state.early_stopping.best_step == step or state.is_over:
            state.save(checkpoints)
    if asked_to_end:
        checkpoints.wait()
        # When one process ends, torchrun ends the others, so first wait until the checkpoint is complete.
        state.runtime.barrier()
        raise Interrupted(f"{config.output}: saved at step {step} of {config.max_steps}")


def _of_stage(state: TrainState) -> dict[str, float]:
    """The figures about the stage in a line of metrics; empty if the run has no stages."""
    if not state.config.stages:
        return {}
    return {"stage": state.stage + 1, "alpha": state.stages[state.stage].sampling.alpha}


def _evaluate(state: TrainState, heldout: Predictions, metrics: Metrics) -> None:
    before = time.monotonic()
    scores = evaluate(state.learner.student, heldout, state.config.batch_tokens, state.runtime)
    # Held-out text may have languages that the student does not read, which should not decide which student is the best.
    read = {language: scores[language] for language in state.reader.languages if language in scores}
    state.early_stopping.add(state.step, read or scores, due_after(state.step, state.config).is_planned)
    metrics.log_evaluation(state.step, heldout.sha256, scores, time.monotonic() - before)


def _exported_step(state: TrainState) -> int:
    best_step = state.early_stopping.best_step
    return best_step if state.config.export == "best" and best_step is not None else state.step


def _is_exported(state: TrainState) -> bool:
    """Whether the run's result is exported, with this model card and after an evaluation on this held-out text."""
    exported = read_export(state.config.output)
    wanted = (_exported_step(state), state.early_stopping.heldout_sha256, state.config.model_card.model_dump())
    return exported is not None and (exported.step, exported.heldout_sha256, exported.model_card) == wanted


def _export(state: TrainState) -> None:
    """Exports the student to the output folder and logs its scores."""
    output, step = state.config.output, _exported_step(state)
    exported = export_checkpoint(
        state.config, state.predictions, state.stages, step, state.early_stopping.heldout_sha256, output
    )
    if exported.languages:
        logger.info(format_scores(exported.languages))
    logger.info("%s: wrote the student of step %d", output, step)
