"""The training loop."""

import gc
import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from schemas.config import recorded
from schemas.errors import UserError, differences, printable
from schemas.lock import owning
from schemas.manifest import Predictions, open_predictions
from schemas.process import deferring
from schemas.storage import join, read_bytes, write_bytes
from schemas.vocabulary import Vocabulary
from trainer.artifacts.checkpoint import (
    CheckpointWriter,
    latest_checkpoint,
    load_checkpoint,
    load_state,
    remove_partial,
)
from trainer.artifacts.checkpoint_state import CheckpointState
from trainer.artifacts.early_stopping import EarlyStopping
from trainer.artifacts.export import export_checkpoint, read_evaluation
from trainer.artifacts.metrics import Metrics
from trainer.config import TrainerConfig
from trainer.data.reader import Reader
from trainer.distributed import Runtime
from trainer.loop.continuation import check_continuation
from trainer.loop.evaluate import evaluate, format_scores, open_heldout
from trainer.loop.skipped_steps import SkippedSteps
from trainer.loop.step import accumulate_gradients, apply_gradients, language_weights, make_optimizer
from trainer.student.initialization import check_initialization, initialize
from trainer.student.model import (
    DistilledStudent,
    build_student,
    check_length,
    config_from_json,
    config_to_json,
    student_config,
)
from trainer.student.start import Start, find_start

RUN_FILE = "run.json"


class Interrupted(Exception):
    """The run was asked to end (SIGTERM, SIGHUP), and has saved where it was."""


@dataclass(frozen=True)
class _Run:
    """What training changes and what it reads.

    Attributes:
      lanes: those of this process, of `micro_batches` in all.
      parallel: the student, whose gradients are averaged over processes.
      owned_TV: bool, which teacher has which token; None where the student is normalised over all.
      configuration: the student's (`config_to_json`).
      run_spec: everything that decides the weights.
    """

    config: TrainerConfig
    runtime: Runtime
    predictions: Predictions
    heldout: Predictions | None
    lanes: range
    reader: Reader
    student: DistilledStudent
    parallel: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    owned_TV: torch.Tensor | None
    configuration: dict
    run_spec: dict


@dataclass
class _Progress:
    """How far a run has come."""

    step: int
    skipped_steps: int
    early_stopping: EarlyStopping

    def is_over(self, config: TrainerConfig) -> bool:
        """Whether there is nothing more to train."""
        return self.step >= config.max_steps or self.early_stopping.has_run_out(config.early_stopping_patience)

    def plans_evaluation(self, config: TrainerConfig) -> bool:
        """Whether an evaluation is due now, however many steps come after this one."""
        return bool(config.eval_steps and self.step % config.eval_steps == 0)

    def must_evaluate(self, config: TrainerConfig) -> bool:
        """Whether an evaluation is due now, also as the last one."""
        if not self.step or not config.heldout or self.early_stopping.step == self.step:
            return False
        return self.is_over(config) or self.plans_evaluation(config)


def train(config: TrainerConfig, runtime: Runtime) -> None:
    """Trains, or goes on from the newest checkpoint, with evaluations, then exports the student.

    Raises:
      UserError: the configuration does not fit the predictions, found before training.
      Interrupted: SIGTERM or SIGHUP came; the same command goes on from there.
    """
    # The other processes do nothing before the first has told them, at the first that they do together.
    with owning(config.output) if runtime.is_main else nullcontext():
        _train_owned(config, runtime)


def _train_owned(config: TrainerConfig, runtime: Runtime) -> None:
    runtime.barrier()
    if runtime.is_main:
        remove_partial(config.output)
    run = _prepare(config, runtime)
    with closing(run.reader):
        progress = _resume(run)
        if runtime.is_main:
            _claim(run, progress)
        if progress.is_over(config) and _is_exported(config, progress):
            if runtime.is_main:
                print(f"{config.output}: finished at step {progress.step}, nothing to do")
            return
        metrics = Metrics(config, run.reader.languages, progress.step, runtime)
        writer = CheckpointWriter(config.output, config.save_total_limit, runtime.is_main)
        with closing(metrics), closing(writer) as checkpoints, _long_lived_uncollected():
            with deferring((signal.SIGTERM, signal.SIGHUP)) as signals:
                _train_steps(run, progress, metrics, checkpoints, signals)
    if runtime.is_main:
        _export(config, run.predictions, progress)
    runtime.barrier()


@contextmanager
def _long_lived_uncollected() -> Iterator[None]:
    """What was made before lives as long as the run: no collection meanwhile need visit it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _prepare(config: TrainerConfig, runtime: Runtime) -> _Run:
    predictions = open_predictions(*config.predictions)
    begun = latest_checkpoint(config.output)
    state = load_state(config.output, begun) if begun else None
    # How many a step of a run that goes on has: the rows that it would see depend on it.
    micro_batches = config.micro_batches or (state.run_spec["micro_batches"] if state else runtime.world_size)
    start = find_start(config.student, predictions) if state is None else None
    _check(config, predictions, state is None, start, micro_batches, runtime)
    run_spec = {
        "vocabulary_sha256": predictions.vocabulary.sha256,
        "manifest_sha256": predictions.sha256,
        "precision_used": str(runtime.dtype),
        **recorded(config),
        "micro_batches": micro_batches,
    }
    if state:
        check_continuation(config, begun, state.run_spec, run_spec)
    heldout = open_heldout(config.heldout, predictions) if config.heldout else None
    lanes = range(runtime.rank, micro_batches, runtime.world_size)
    longest = max(predictions.max_length, heldout.max_length if heldout else 0)
    if state:
        # What it was made from need not be there any more.
        configuration = state.configuration
        check_length(shape := config_from_json(configuration), longest)
    else:
        shape = student_config(config.student, predictions.vocabulary, longest, start)
        configuration = config_to_json(shape)
    model = build_student(shape, config.seed)
    if state is None:
        provenance = initialize(model, config.student, predictions, start)
        if runtime.is_main:
            print(*map(printable, provenance), sep="\n", end="\n" * bool(provenance))
    student = DistilledStudent(model)
    if config.gradient_checkpointing:
        student.checkpoint_gradients()
    if config.torch_compile:
        for layer in student.layers():
            layer.compile(dynamic=True)
    parallel = runtime.parallel(student, student.layers() if config.fsdp else None)
    optimizer, scheduler = make_optimizer(student, config.optimizer, config.max_steps)
    reader = Reader(
        predictions,
        config.sampling,
        config.batch_tokens,
        config.seed,
        predictions.top_k if config.distillation.distils else 0,
        micro_batches,
        lanes,
        config.reader_threads,
    )
    owned_TV = None
    if config.distillation.normalize == "teacher":
        owned_TV = owned_tokens(predictions.vocabulary, reader.teachers).to(runtime.device)
    return _Run(
        config,
        runtime,
        predictions,
        heldout,
        lanes,
        reader,
        student,
        parallel,
        optimizer,
        scheduler,
        owned_TV,
        configuration,
        run_spec,
    )


def _resume(run: _Run) -> _Progress:
    """Loads the newest checkpoint, if any."""
    output = run.config.output
    progress = _Progress(0, 0, EarlyStopping(run.heldout.sha256 if run.heldout else None))
    step = run.runtime.agree(latest_checkpoint(output) or 0, f"checkpoints in {output}")
    if not step:
        return progress
    load_checkpoint(output, step, run.student.model, run.optimizer)
    state = load_state(output, step)
    run.scheduler.load_state_dict(state.scheduler)
    for group, rate in zip(run.optimizer.param_groups, run.scheduler.get_last_lr(), strict=True):
        group["lr"] = rate
    run.reader.load_state(state.reader)
    progress.step, progress.skipped_steps = step, state.skipped_steps
    # Figures on other held-out text are not to be compared.
    if state.early_stopping.heldout_sha256 == progress.early_stopping.heldout_sha256:
        progress.early_stopping = state.early_stopping
    return progress


def _claim(run: _Run, progress: _Progress) -> None:
    """Writes which run the output folder is of. UserError where another began there, which has no checkpoint yet."""
    path = join(run.config.output, RUN_FILE)
    # By default there are as many as the run has processes when it takes its first step.
    claim = run.run_spec | {"micro_batches": run.config.micro_batches}
    if not progress.step and Path(path).exists():
        try:
            theirs = json.loads(read_bytes(path))
        except ValueError:
            raise UserError(f"{path}: is damaged; remove it, or choose another output") from None
        if changed := differences(theirs, claim):
            raise UserError(
                f"{run.config.output}: holds another run ({changed}); remove the folder or choose another output"
            )
    write_bytes(path, json.dumps(claim, indent=2).encode() + b"\n")


def _train_steps(
    run: _Run, progress: _Progress, metrics: Metrics, checkpoints: CheckpointWriter, signals: list[int]
) -> None:
    """Trains from where `progress` is to the last step, and moves it there. Ends sooner when `signals` has any."""
    config, runtime = run.config, run.runtime
    skipped = SkippedSteps(config.max_skipped_steps, progress.skipped_steps, runtime)
    reader = iter(run.reader)
    run.student.train()
    if progress.must_evaluate(config):
        # It was asked to end before this evaluation; or there is other held-out text now.
        _evaluate(run, progress, metrics)
        _save(run, progress, checkpoints)
    while not progress.is_over(config):
        step = progress.step + 1
        before = time.monotonic()
        batches = dict(zip(run.lanes, next(reader), strict=True))
        metrics.waited(time.monotonic() - before)
        # Of all processes, and whether any was asked to end: all end at the same step.
        own_positions = sum(len(batch.labels_M) for batch in batches.values())
        positions, asked_to_end = runtime.all_reduce(torch.tensor([own_positions, len(signals)])).tolist()
        weights = language_weights(config.distillation, run.reader.languages, step, config.max_steps)
        for batch, losses in accumulate_gradients(
            run.parallel,
            batches,
            positions,
            weights.to(runtime.device),
            config.distillation,
            run.owned_TV,
            (config.seed, step),
            runtime,
        ):
            metrics.add(batch, losses)
            skipped.add_batch(step, batch, losses)
        is_bad = apply_gradients(run.student, run.optimizer, run.scheduler, config.optimizer.max_grad_norm)
        skipped.add_step(step, is_bad)
        metrics.step()
        progress.step = step

        is_last = step == config.max_steps
        is_logged = is_last or step % config.logging_steps == 0
        is_evaluated = not asked_to_end and progress.must_evaluate(config)
        is_saved = asked_to_end or is_last or step % config.save_steps == 0
        if is_logged or is_saved or is_evaluated:
            skipped.check()
            progress.skipped_steps = skipped.count
        if is_logged:
            metrics.log(step, run.scheduler.get_last_lr()[0], weights, skipped.count)
        if is_evaluated:
            _evaluate(run, progress, metrics)
            is_saved |= progress.early_stopping.best_step == step or progress.is_over(config)
        if is_saved:
            _save(run, progress, checkpoints)
        if asked_to_end:
            checkpoints.wait()
            # The first process that ends makes torchrun end the others: not before the checkpoint is whole.
            runtime.barrier()
            raise Interrupted(f"{config.output}: saved at step {step} of {config.max_steps}")


def _evaluate(run: _Run, progress: _Progress, metrics: Metrics) -> None:
    before = time.monotonic()
    result = evaluate(run.student, run.heldout, run.config.batch_tokens, run.runtime)
    progress.early_stopping.add(progress.step, result, progress.plans_evaluation(run.config))
    metrics.log_evaluation(progress.step, run.heldout.sha256, result, time.monotonic() - before)


def _save(run: _Run, progress: _Progress, checkpoints: CheckpointWriter) -> None:
    """Starts writing a checkpoint of all processes' state."""
    states = run.runtime.gather(run.reader.state())
    lanes = {lane: state for part in states for lane, state in part["lanes"].items()}
    state = CheckpointState(
        step=progress.step,
        run_spec=run.run_spec,
        configuration=run.configuration,
        reader={"version": states[0]["version"], "lanes": lanes},
        scheduler=run.scheduler.state_dict(),
        skipped_steps=progress.skipped_steps,
        early_stopping=replace(progress.early_stopping),
    )
    checkpoints.save(progress.step, run.student.model, run.optimizer, state, progress.early_stopping.best_step)


def _exported_step(config: TrainerConfig, progress: _Progress) -> int | None:
    return progress.early_stopping.best_step if config.export == "best" else progress.step


def _is_exported(config: TrainerConfig, progress: _Progress) -> bool:
    """Whether the run's result is there, and evaluated on this very held-out text."""
    found = read_evaluation(config.output)
    wanted = (_exported_step(config, progress), progress.early_stopping.heldout_sha256)
    return found is not None and (found.step, found.heldout_sha256) == wanted


def _export(config: TrainerConfig, predictions: Predictions, progress: _Progress) -> None:
    """Exports the student to the output folder and says how good it is."""
    step = _exported_step(config, progress)
    result = export_checkpoint(config, predictions, step, progress.early_stopping.heldout_sha256, config.output)
    if result.languages:
        print(format_scores(result.languages))
    print(f"{config.output}: the student after step {step}")


def owned_tokens(vocabulary: Vocabulary, teachers: list[str]) -> torch.Tensor:
    """bool [T, V]: which merged ids each teacher has."""
    return torch.stack([torch.from_numpy(vocabulary.teacher_ids[teacher] >= 0) for teacher in teachers])


def _check(
    config: TrainerConfig,
    predictions: Predictions,
    is_new: bool,
    start: Start | None,
    micro_batches: int,
    runtime: Runtime,
) -> None:
    """What can be known before anything is built. UserError."""
    distillation = config.distillation
    if distillation.distils and not predictions.top_k:
        raise UserError(
            f"distillation.kd_weight is {distillation.kd_weight}, but {predictions.newest} was made with top_k: 0 "
            "and holds no teacher predictions; set it to 0 or rerun the pipeline with a top_k"
        )
    if unknown := sorted(distillation.languages.keys() - set(predictions.language_names)):
        raise UserError(
            f"distillation.languages: unknown language {unknown[0]!r}; the predictions have: "
            + ", ".join(predictions.language_names)
        )
    if is_new:
        check_initialization(config.student, predictions, start)
    if micro_batches % runtime.world_size:
        raise UserError(
            f"micro_batches is {micro_batches}, which {runtime.world_size} processes cannot share evenly; "
            + (f"make it a multiple of {runtime.world_size}, or " if is_new else "")
            + "start another number of processes"
        )
