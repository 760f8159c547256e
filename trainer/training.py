"""The training loop."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, get_scheduler

from schemas.errors import UserError
from schemas.manifest import Predictions, open_predictions
from schemas.storage import write_bytes
from trainer.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from trainer.collate import Batch
from trainer.config import DistillationConfig, OptimizerConfig, TrainerConfig
from trainer.evaluation import evaluate, format_evaluation, open_heldout
from trainer.export import export_student
from trainer.loss import Losses
from trainer.metrics import Metrics
from trainer.reader import Reader
from trainer.runtime import Runtime
from trainer.student import DistilledStudent, build_student, student_config

# The configuration's names to those of transformers.
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
EVALUATION_FILE = "evaluation.json"
# What may change between a run and its continuation, since no weight depends on it.
_INCIDENTAL = {
    "output",
    "predictions",
    "heldout",
    "log_every",
    "evaluate_every",
    "checkpoint_every",
    "keep_checkpoints",
}


def train(config: TrainerConfig, runtime: Runtime) -> None:
    """Trains, or goes on from the newest checkpoint, then evaluates and exports.

    Raises:
      UserError: the configuration does not fit the predictions, found before training.
    """
    predictions = open_predictions(*config.predictions)
    if config.distillation.weight and not predictions.top_k:
        raise UserError(
            f"distillation.weight is {config.distillation.weight}, but {predictions.newest} was made with top_k: 0 "
            "and holds no teacher predictions; set it to 0 or rerun the pipeline with a top_k"
        )
    heldout = open_heldout(config.heldout, predictions) if config.heldout else None
    reader = Reader(predictions, config.sampling, config.batch_tokens, config.seed)
    longest = max(predictions.max_length, heldout.max_length if heldout else 0)
    model = build_student(student_config(config.student, predictions.vocabulary, longest), config.seed)
    student = DistilledStudent(model).to(runtime.device)
    optimizer = make_optimizer(student, config.optimizer)
    scheduler = get_scheduler(
        SCHEDULES[config.optimizer.schedule], optimizer, config.optimizer.warmup_steps, config.steps
    )
    identity = _identity(config, predictions, runtime)

    start = runtime.agree(latest_checkpoint(config.output) or 0, f"checkpoints in {config.output}")
    if start:
        training, state = load_checkpoint(config.output, start, model, identity, runtime)
        optimizer.load_state_dict(training["optimizer"])
        scheduler.load_state_dict(training["scheduler"])
        reader.load_state(state["reader"])
    if start == config.steps and _is_finished(config, heldout):
        if runtime.is_main:
            print(f"{config.output}: finished at step {start}, nothing to do")
        return

    parallel = runtime.parallel(student)
    metrics = Metrics(config.output, reader.languages, config.steps, start, runtime)
    batches = iter(reader)
    student.train()
    for step in range(start + 1, config.steps + 1):
        weight = distillation_weight(config.distillation, step, config.steps)
        # Dropout is a function of seed, step and rank, so that a resumed run repeats it.
        torch.manual_seed(step_seed(config.seed, step, runtime.rank))
        # Every process makes the whole step's batches and takes its own.
        step_batches = list(islice(batches, config.accumulation * runtime.world_size))
        for batch, losses in accumulate_gradients(parallel, step_batches, weight, config.distillation.tail, runtime):
            metrics.add(batch, losses)
        nn.utils.clip_grad_norm_(student.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        metrics.step()
        if step % config.log_every == 0 or step == config.steps:
            metrics.log(step, scheduler.get_last_lr()[0], weight)
        if (step % config.checkpoint_every == 0 or step == config.steps) and runtime.is_main:
            save_checkpoint(
                config.output,
                step,
                model,
                {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()},
                {"step": step, "identity": identity, "reader": reader.state()},
                config.keep_checkpoints,
            )
        if heldout and config.evaluate_every and step % config.evaluate_every == 0 and step < config.steps:
            metrics.log_evaluation(step, evaluate(student, heldout, config.batch_tokens, runtime))

    result = evaluate(student, heldout, config.batch_tokens, runtime) if heldout else {}
    metrics.log_evaluation(config.steps, result)
    metrics.close()
    if runtime.is_main:
        _finish(config, model, predictions, heldout, result)
    runtime.barrier()


def accumulate_gradients(
    parallel: nn.Module, step_batches: list[Batch], weight: float, tail: str, runtime: Runtime
) -> Iterator[tuple[Batch, Losses]]:
    """One optimizer step's gradients: the mean over all masked positions of all processes.

    Args:
      step_batches: the whole step's micro-batches, the same in every process.

    Yields each of this process's batches with its losses, after their backward pass.
    """
    positions = sum(len(batch.labels_M) for batch in step_batches)
    own = step_batches[runtime.rank :: runtime.world_size]
    for number, batch in enumerate(own, 1):
        batch = batch.to(runtime.device)
        last = runtime.world_size == 1 or number == len(own)
        with nullcontext() if last else parallel.no_sync():
            with runtime.autocast():
                losses = parallel(batch, weight, tail)
            # Divided once, by the step's positions; DDP averages gradients over processes.
            (losses.total * (runtime.world_size / positions)).backward()
        yield batch, losses


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


def make_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def distillation_weight(config: DistillationConfig, step: int, steps: int) -> float:
    """Lambda at `step` of 1..steps: from `weight` linearly to `final_weight`, if there is one."""
    if config.final_weight is None:
        return config.weight
    done = (step - 1) / max(1, steps - 1)
    return config.weight + (config.final_weight - config.weight) * done


def step_seed(seed: int, step: int, rank: int) -> int:
    """A 63-bit seed for one process's step."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _identity(config: TrainerConfig, predictions: Predictions, runtime: Runtime) -> dict:
    """Everything that decides the weights, as a checkpoint keeps it."""
    return {
        "vocabulary_sha256": predictions.vocabulary.sha256,
        "manifest_sha256": predictions.sha256,
        "precision_used": str(runtime.dtype),
        "world_size": runtime.world_size,
        **config.model_dump(mode="json", exclude=_INCIDENTAL),
    }
