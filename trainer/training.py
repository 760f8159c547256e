"""The training loop."""

import json
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from schemas.errors import UserError
from schemas.manifest import Predictions, open_predictions
from schemas.storage import write_bytes
from schemas.vocabulary import Vocabulary
from trainer.checkpoint import CheckpointWriter, latest_checkpoint, load_checkpoint
from trainer.config import TrainerConfig
from trainer.evaluation import evaluate, format_evaluation, open_heldout
from trainer.export import export_student
from trainer.metrics import Metrics
from trainer.optimization import accumulate_gradients, apply_gradients, language_weights, make_optimizer
from trainer.reader import Reader
from trainer.runtime import Runtime
from trainer.skipped import SkippedSteps
from trainer.student import DistilledStudent, build_student, student_config

EVALUATION_FILE = "evaluation.json"
# What may change between a run and its continuation, since no weight depends on it.
_INCIDENTAL = {
    "output",
    "predictions",
    "heldout",
    "max_skipped_steps",
    "readers",
    "log_every",
    "evaluate_every",
    "checkpoint_every",
    "keep_checkpoints",
}


class Interrupted(Exception):
    """The run was asked to end (SIGTERM), and has saved where it was."""


@dataclass(frozen=True)
class _Run:
    """What training changes and what it reads.

    Attributes:
      lanes: those of this process, of `micro_batches` in all.
      owned_TV: bool, which teacher has which token; None where the student is normalised over all.
      identity: everything that decides the weights.
    """

    config: TrainerConfig
    runtime: Runtime
    predictions: Predictions
    heldout: Predictions | None
    lanes: range
    reader: Reader
    student: DistilledStudent
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    owned_TV: torch.Tensor | None
    identity: dict


def train(config: TrainerConfig, runtime: Runtime) -> None:
    """Trains, or goes on from the newest checkpoint, then evaluates and exports.

    Raises:
      UserError: the configuration does not fit the predictions, found before training.
      Interrupted: SIGTERM came; the same command goes on from there.
    """
    run = _prepare(config, runtime)
    with closing(run.reader):
        start, skipped = _resume(run)
        if start == config.steps and _is_finished(config, run.heldout):
            if runtime.is_main:
                print(f"{config.output}: finished at step {start}, nothing to do")
            return
        metrics = Metrics(
            config.output, run.reader.languages, config.distillation.distils, config.steps, start, runtime
        )
        with closing(metrics), closing(CheckpointWriter(config.output, config.keep_checkpoints)) as checkpoints:
            _train_steps(run, start, skipped, metrics, checkpoints)
            result = evaluate(run.student, run.heldout, config.batch_tokens, runtime) if run.heldout else {}
            metrics.log_evaluation(config.steps, result)
    if runtime.is_main:
        _finish(config, run.student.model, run.predictions, run.heldout, result)
    runtime.barrier()


def _prepare(config: TrainerConfig, runtime: Runtime) -> _Run:
    predictions = open_predictions(*config.predictions)
    _check(config, predictions, runtime)
    heldout = open_heldout(config.heldout, predictions) if config.heldout else None
    micro_batches = config.micro_batches or runtime.world_size
    lanes = range(runtime.rank, micro_batches, runtime.world_size)
    longest = max(predictions.max_length, heldout.max_length if heldout else 0)
    model = build_student(student_config(config.student, predictions.vocabulary, longest), config.seed)
    student = DistilledStudent(model).to(runtime.device)
    optimizer, scheduler = make_optimizer(student, config.optimizer, config.steps)
    reader = Reader(
        predictions,
        config.sampling,
        config.batch_tokens,
        config.seed,
        predictions.top_k if config.distillation.distils else 0,
        micro_batches,
        lanes,
        config.readers,
    )
    owned_TV = None
    if config.distillation.normalize == "teacher":
        owned_TV = owned_tokens(predictions.vocabulary, reader.teachers).to(runtime.device)
    identity = {
        "vocabulary_sha256": predictions.vocabulary.sha256,
        "manifest_sha256": predictions.sha256,
        "precision_used": str(runtime.dtype),
        **config.model_dump(mode="json", exclude=_INCIDENTAL),
        "micro_batches": micro_batches,
    }
    return _Run(config, runtime, predictions, heldout, lanes, reader, student, optimizer, scheduler, owned_TV, identity)


def _resume(run: _Run) -> tuple[int, int]:
    """Loads the newest checkpoint, if any; gives its step and how many steps were left out before it."""
    output = run.config.output
    start = run.runtime.agree(latest_checkpoint(output) or 0, f"checkpoints in {output}")
    if not start:
        return 0, 0
    state = load_checkpoint(output, start, run.student.model, run.optimizer, run.identity)
    run.scheduler.load_state_dict(state["scheduler"])
    for group, rate in zip(run.optimizer.param_groups, run.scheduler.get_last_lr(), strict=True):
        group["lr"] = rate
    run.reader.load_state(state["reader"])
    return start, state["skipped_steps"]


def _train_steps(run: _Run, start: int, skipped_before: int, metrics: Metrics, checkpoints: CheckpointWriter) -> None:
    """Steps `start` + 1 to the last."""
    config, runtime = run.config, run.runtime
    parallel = runtime.parallel(run.student)
    skipped = SkippedSteps(config.max_skipped_steps, skipped_before, runtime)
    signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    reader = iter(run.reader)
    run.student.train()
    for step in range(start + 1, config.steps + 1):
        before = time.monotonic()
        batches = dict(zip(run.lanes, next(reader), strict=True))
        metrics.waited(time.monotonic() - before)
        # Of all processes, and whether any was asked to end: all end at the same step.
        own_positions = sum(len(batch.labels_M) for batch in batches.values())
        positions, asked_to_end = runtime.all_reduce(torch.tensor([own_positions, len(signals)])).tolist()
        weights = language_weights(config.distillation, run.reader.languages, step, config.steps)
        for batch, losses in accumulate_gradients(
            parallel,
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
        is_bad = apply_gradients(run.student, run.optimizer, run.scheduler, config.optimizer.clip_norm)
        skipped.add_step(step, is_bad)
        metrics.step()

        is_last = step == config.steps
        is_logged = is_last or step % config.log_every == 0
        is_saved = asked_to_end or is_last or step % config.checkpoint_every == 0
        if is_logged or is_saved:
            skipped.check()
        if is_logged:
            metrics.log(step, run.scheduler.get_last_lr()[0], weights, skipped.count)
        if is_saved:
            _save(run, step, skipped.count, checkpoints)
        if asked_to_end and not is_last:
            checkpoints.wait()
            # The first process that ends makes torchrun end the others: not before the checkpoint is whole.
            runtime.barrier()
            raise Interrupted(f"{config.output}: saved at step {step} of {config.steps}")
        if run.heldout and config.evaluate_every and step % config.evaluate_every == 0 and not is_last:
            metrics.log_evaluation(step, evaluate(run.student, run.heldout, config.batch_tokens, runtime))


def _save(run: _Run, step: int, skipped_steps: int, checkpoints: CheckpointWriter) -> None:
    """Starts writing a checkpoint of all processes' state."""
    states = run.runtime.gather(run.reader.state())
    if not run.runtime.is_main:
        return
    lanes = {lane: state for part in states for lane, state in part["lanes"].items()}
    state = {
        "step": step,
        "identity": run.identity,
        "reader": {"version": states[0]["version"], "lanes": lanes},
        "scheduler": run.scheduler.state_dict(),
        "skipped_steps": skipped_steps,
    }
    checkpoints.save(step, run.student.model, run.optimizer, state)


def owned_tokens(vocabulary: Vocabulary, teachers: list[str]) -> torch.Tensor:
    """bool [T, V]: which merged ids each teacher has."""
    return torch.stack([torch.from_numpy(vocabulary.teacher_ids[teacher] >= 0) for teacher in teachers])


def _check(config: TrainerConfig, predictions: Predictions, runtime: Runtime) -> None:
    """What can be known before anything is built. UserError."""
    distillation = config.distillation
    if distillation.distils and not predictions.top_k:
        raise UserError(
            f"distillation.weight is {distillation.weight}, but {predictions.newest} was made with top_k: 0 "
            "and holds no teacher predictions; set it to 0 or rerun the pipeline with a top_k"
        )
    if unknown := sorted(distillation.languages.keys() - set(predictions.language_names)):
        raise UserError(
            f"distillation.languages: unknown language {unknown[0]!r}; the predictions have: "
            + ", ".join(predictions.language_names)
        )
    if (config.micro_batches or runtime.world_size) % runtime.world_size:
        raise UserError(
            f"micro_batches is {config.micro_batches}, which {runtime.world_size} processes cannot share evenly; "
            f"make it a multiple of {runtime.world_size}, or start another number of processes"
        )


def _finish(
    config: TrainerConfig,
    model: PreTrainedModel,
    predictions: Predictions,
    heldout: Predictions | None,
    result: dict[str, dict],
) -> None:
    """Exports the student, then marks the run as finished and says how good it is."""
    export_student(config.output, model, predictions)
    write_bytes(str(Path(config.output) / EVALUATION_FILE), _evaluation(heldout, result).encode())
    if result:
        print(format_evaluation(result))
    print(f"{config.output}: the student, {model.num_parameters():,} parameters")


def _evaluation(heldout: Predictions | None, result: dict[str, dict]) -> str:
    """`evaluation.json`: each language's figures, and what they were measured on."""
    return json.dumps({"heldout_sha256": heldout and heldout.sha256, "languages": result}, indent=2) + "\n"


def _is_finished(config: TrainerConfig, heldout: Predictions | None) -> bool:
    """Whether the run was exported, and evaluated on this very held-out text."""
    path = Path(config.output) / EVALUATION_FILE
    return path.exists() and json.loads(path.read_text()).get("heldout_sha256") == (heldout and heldout.sha256)
