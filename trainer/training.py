"""The training loop."""

import json
import signal
import time
from pathlib import Path

import torch
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


def train(config: TrainerConfig, runtime: Runtime) -> None:
    """Trains, or goes on from the newest checkpoint, then evaluates and exports.

    Raises:
      UserError: the configuration does not fit the predictions, found before training.
      Interrupted: SIGTERM came; the same command goes on from there.
    """
    predictions = open_predictions(*config.predictions)
    _check(config, predictions, runtime)
    heldout = open_heldout(config.heldout, predictions) if config.heldout else None
    lanes = config.micro_batches or runtime.world_size
    own_lanes = range(runtime.rank, lanes, runtime.world_size)
    reader = Reader(
        predictions,
        config.sampling,
        config.batch_tokens,
        config.seed,
        predictions.top_k if config.distillation.distils else 0,
        lanes,
        own_lanes,
        config.readers,
    )
    longest = max(predictions.max_length, heldout.max_length if heldout else 0)
    model = build_student(student_config(config.student, predictions.vocabulary, longest), config.seed)
    student = DistilledStudent(model).to(runtime.device)
    optimizer, scheduler = make_optimizer(student, config.optimizer, config.steps)
    identity = _identity(config, predictions, runtime, lanes)
    owned_TV = None
    if config.distillation.normalize == "teacher":
        owned_TV = owned_tokens(predictions.vocabulary, reader.teachers).to(runtime.device)

    start, skipped_before = runtime.agree(latest_checkpoint(config.output) or 0, f"checkpoints in {config.output}"), 0
    if start:
        state = load_checkpoint(config.output, start, model, optimizer, identity)
        scheduler.load_state_dict(state["scheduler"])
        for group, rate in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        reader.load_state(state["reader"])
        skipped_before = state["skipped_steps"]
    if start == config.steps and _is_finished(config, heldout):
        reader.close()
        if runtime.is_main:
            print(f"{config.output}: finished at step {start}, nothing to do")
        return

    parallel = runtime.parallel(student)
    metrics = Metrics(config.output, reader.languages, config.steps, start, runtime)
    skipped = SkippedSteps(config.max_skipped_steps, skipped_before, runtime)
    checkpoints = CheckpointWriter(config.output, config.keep_checkpoints)
    signals = []
    signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    steps = iter(reader)
    student.train()
    for step in range(start + 1, config.steps + 1):
        before = time.monotonic()
        batches = dict(zip(own_lanes, next(steps), strict=True))
        metrics.waited(time.monotonic() - before)
        # Of all processes, and whether any was asked to end: all end at the same step.
        positions, asked_to_end = runtime.all_reduce(
            torch.tensor([sum(len(batch.labels_M) for batch in batches.values()), len(signals)])
        ).tolist()
        weights = language_weights(config.distillation, reader.languages, step, config.steps)
        for batch, losses in accumulate_gradients(
            parallel,
            batches,
            positions,
            weights.to(runtime.device),
            config.distillation,
            owned_TV,
            (config.seed, step),
            runtime,
        ):
            metrics.add(batch, losses)
            skipped.add_batch(step, batch, losses)
        skipped.add_step(step, apply_gradients(student, optimizer, scheduler, config.optimizer.clip_norm))
        metrics.step()
        is_last = step == config.steps
        is_saved = asked_to_end or is_last or step % config.checkpoint_every == 0
        if is_saved or step % config.log_every == 0:
            skipped.check()
        if is_last or step % config.log_every == 0:
            metrics.log(step, scheduler.get_last_lr()[0], weights, skipped.count)
        if is_saved:
            states = runtime.gather(reader.state())
            if runtime.is_main:
                state = {
                    "step": step,
                    "identity": identity,
                    "reader": {"version": states[0]["version"], "lanes": _union(s["lanes"] for s in states)},
                    "scheduler": scheduler.state_dict(),
                    "skipped_steps": skipped.count,
                }
                checkpoints.save(step, model, optimizer, state)
        if asked_to_end and not is_last:
            checkpoints.wait()
            raise Interrupted(f"{config.output}: saved at step {step} of {config.steps}")
        if heldout and config.evaluate_every and step % config.evaluate_every == 0 and not is_last:
            metrics.log_evaluation(step, evaluate(student, heldout, config.batch_tokens, runtime))
    reader.close()
    checkpoints.close()

    result = evaluate(student, heldout, config.batch_tokens, runtime) if heldout else {}
    metrics.log_evaluation(config.steps, result)
    metrics.close()
    if runtime.is_main:
        _finish(config, model, predictions, heldout, result)
    runtime.barrier()


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


def _union(dictionaries) -> dict:
    return {key: value for dictionary in dictionaries for key, value in dictionary.items()}


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


def _identity(config: TrainerConfig, predictions: Predictions, runtime: Runtime, lanes: int) -> dict:
    """Everything that decides the weights, as a checkpoint keeps it."""
    return {
        "vocabulary_sha256": predictions.vocabulary.sha256,
        "manifest_sha256": predictions.sha256,
        "precision_used": str(runtime.dtype),
        **config.model_dump(mode="json", exclude=_INCIDENTAL),
        "micro_batches": lanes,
    }
