"""One optimizer step: lambda, losses, gradients, learning rate."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from schemas.vocabulary import Vocabulary
from trainer.artifacts.metrics import Metrics
from trainer.config import DistillationConfig, LanguageWeight, OptimizerConfig, TrainerConfig
from trainer.data.batches import Batch, to_device
from trainer.distributed import Runtime
from trainer.loop.skipped_steps import SkippedSteps
from trainer.loss.objective import Objective
from trainer.loss.sparse import Losses, Ownership
from trainer.student.model import DistilledStudent


@dataclass(frozen=True)
class Learner:
    """The student and what changes its weights.

    Attributes:
      parallel: the student, wrapped so that gradients are averaged over processes.
      languages: the list that the batches' `language_M` refer to.
      owned_TV: bool, which teacher has which token; None if the student is normalised over all tokens.
    """

    config: TrainerConfig
    runtime: Runtime
    student: DistilledStudent
    parallel: nn.Module
    optimizer: torch.optim.AdamW
    scheduler: LRScheduler
    languages: list[str]
    owned_TV: torch.Tensor | None

    def kd_weights(self, step: int) -> torch.Tensor:
        """Lambda of each language at `step`."""
        return language_weights(self.config.distillation, self.languages, step, self.config.max_steps)


def make_learner(
    config: TrainerConfig,
    runtime: Runtime,
    student: DistilledStudent,
    languages: list[str],
    owned_TV: torch.Tensor | None,
) -> Learner:
    """Moves the student to the device, sharded over the processes if `fsdp` is set, and makes its optimizer."""
    parallel = runtime.parallel(student, student.layers() if config.fsdp else None)
    # FSDP replaces the parameters, so make the optimizer afterwards.
    optimizer, scheduler = make_optimizer(student, config.optimizer, config.max_steps)
    return Learner(
        config=config,
        runtime=runtime,
        student=student,
        parallel=parallel,
        optimizer=optimizer,
        scheduler=scheduler,
        languages=languages,
        owned_TV=None if owned_TV is None else owned_TV.to(runtime.device),
    )


def make_optimizer(module: nn.Module, config: OptimizerConfig, max_steps: int) -> tuple[torch.optim.AdamW, LRScheduler]:
    """Returns AdamW, with weight decay on matrices only, and the schedule of its learning rate."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )
    return optimizer, get_scheduler(config.lr_scheduler_type, optimizer, config.warmup_steps, max_steps)


def owned_tokens(vocabulary: Vocabulary, teachers: list[str]) -> torch.Tensor:
    """bool [T, V]: which merged ids each teacher has."""
    return torch.stack([torch.from_numpy(vocabulary.teacher_ids[teacher] >= 0) for teacher in teachers])


def train_step(
    learner: Learner,
    step: int,
    batches: Mapping[int, Batch],
    positions: int,
    metrics: Metrics,
    skipped: SkippedSteps,
) -> None:
    """Takes one optimizer step. On a GPU the host never waits during it.

    Args:
      step: of 1..max_steps.
      batches: this process's micro-batches, by lane.
      positions: masked positions of the step's micro-batches over all processes.
      metrics, skipped: record the step's results on the device.
    """
    config, runtime = learner.config, learner.runtime
    for batch, losses in accumulate_gradients(
        learner.parallel,
        batches,
        positions,
        to_device(learner.kd_weights(step), runtime.device),
        config.distillation,
        learner.owned_TV,
        (config.seed, step),
        runtime,
    ):
        metrics.add(batch, losses)
        skipped.add_batch(step, batch, losses)
    is_bad = apply_gradients(learner.student, learner.optimizer, learner.scheduler, config.optimizer.max_grad_norm)
    skipped.add_step(step, is_bad)
    metrics.step()


def language_weights(config: DistillationConfig, languages: list[str], step: int, max_steps: int) -> torch.Tensor:
    """Lambda of each language at `step` of 1..max_steps, float32: from `kd_weight` to `final_kd_weight`, if given."""
    share_done = (step - 1) / max(1, max_steps - 1)
    if config.schedule == "cosine":
        share_done = (1 - math.cos(math.pi * share_done)) / 2
    return torch.tensor([_kd_weight(config.languages.get(language, config), share_done) for language in languages])


def _kd_weight(config: DistillationConfig | LanguageWeight, share_done: float) -> float:
    last = config.kd_weight if config.final_kd_weight is None else config.final_kd_weight
    return config.kd_weight + (last - config.kd_weight) * share_done


def position_weights(batch: Batch, kd_weights: torch.Tensor, confidence_power: float) -> torch.Tensor:
    """lambda_M: the language's lambda times the teacher's probability of the label to the power `confidence_power`."""
    lambda_M = kd_weights[batch.language_M]
    return lambda_M * torch.exp(confidence_power * batch.label_logprobs_M) if confidence_power else lambda_M


def accumulate_gradients(
    parallel: nn.Module,
    batches: Mapping[int, Batch],
    positions: int,
    kd_weights: torch.Tensor,
    config: DistillationConfig,
    owned_TV: torch.Tensor | None,
    seeds: tuple[int, int],
    runtime: Runtime,
) -> Iterator[tuple[Batch, Losses]]:
    """Computes one optimizer step's gradients: the mean over all masked positions of all processes.

    Args:
      batches: this process's micro-batches, by lane.
      positions: masked positions of the step's micro-batches over all processes.
      kd_weights: lambda of each language.
      owned_TV: bool, which teacher has which token, to normalise over these; or None.
      seeds: (seed, step). Dropout depends only on them and the lane, so that a resumed run repeats it.

    Yields each of this process's batches with its losses, after their backward pass.
    """
    objective = Objective(config.tail, config.temperature)
    for number, (lane, batch) in enumerate(batches.items(), 1):
        torch.manual_seed(_seed(*seeds, lane))
        batch = batch.to(runtime.device)
        lambda_M = position_weights(batch, kd_weights, config.confidence_power)
        ownership = None if owned_TV is None else Ownership(owned_TV, batch.teacher_M)
        is_last = number == len(batches)
        with nullcontext() if is_last else _without_averaging(parallel):
            with runtime.autocast():
                losses = parallel(batch, lambda_M, objective, ownership)
            # Divide once by the step's positions. The factor world_size undoes the average over processes.
            (losses.total * (runtime.world_size / positions)).backward()
        yield batch, losses


@contextmanager
def _without_averaging(parallel: nn.Module) -> Iterator[None]:
    """Sums gradients locally; the last micro-batch's backward pass averages the sum over the processes."""
    if isinstance(parallel, nn.parallel.DistributedDataParallel):
        with parallel.no_sync():
            yield
    elif isinstance(parallel, FSDPModule):
        # Until then each process has the unsharded sum of its own gradients.
        parallel.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            parallel.set_requires_gradient_sync(True)
    else:
        yield


def apply_gradients(
    module: nn.Module, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, max_grad_norm: float
) -> torch.Tensor:
    """Takes an optimizer step that leaves the weights unchanged if the gradient is not finite.

    Returns whether it was not finite, as a bool scalar on the device, so that the host does not wait.
    """
    norm = nn.utils.clip_grad_norm_(module.parameters(), max_grad_norm)
    is_bad = ~torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    # Like GradScaler: the fused kernels read this attribute, which torch does not declare.
    optimizer.found_inf = is_bad.float()  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad()
    scheduler.step()
    return is_bad


def _seed(*numbers: int) -> int:
    """A 63-bit seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
