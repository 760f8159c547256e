"""What an optimizer step is made of: lambda, gradients, learning rate."""

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from trainer.config import DistillationConfig, LanguageWeight, OptimizerConfig
from trainer.data.batches import Batch
from trainer.distributed import Runtime
from trainer.loss.objective import Objective
from trainer.loss.sparse import Losses, Ownership


def make_optimizer(module: nn.Module, config: OptimizerConfig, steps: int) -> tuple[torch.optim.AdamW, LRScheduler]:
    """AdamW, with weight decay on matrices only, and its learning rate's schedule."""
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
    return optimizer, get_scheduler(config.lr_scheduler_type, optimizer, config.warmup_steps, steps)


def language_weights(config: DistillationConfig, languages: list[str], step: int, steps: int) -> torch.Tensor:
    """Lambda of each language at `step` of 1..steps, float32: from `kd_weight` to `final_kd_weight`, if there is one."""
    done = (step - 1) / max(1, steps - 1)
    if config.schedule == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    own = [config.languages.get(language, config) for language in languages]
    return torch.tensor([_at(weight, done) for weight in own])


def _at(config: DistillationConfig | LanguageWeight, done: float) -> float:
    last = config.kd_weight if config.final_kd_weight is None else config.final_kd_weight
    return config.kd_weight + (last - config.kd_weight) * done


def position_weights(batch: Batch, weights: torch.Tensor, confidence: float) -> torch.Tensor:
    """lambda_M: the language's, times the teacher's probability of the label to the power `confidence`."""
    lambda_M = weights[batch.language_M]
    return lambda_M * torch.exp(confidence * batch.label_logprobs_M) if confidence else lambda_M


def accumulate_gradients(
    parallel: nn.Module,
    batches: Mapping[int, Batch],
    positions: int,
    weights: torch.Tensor,
    config: DistillationConfig,
    owned_TV: torch.Tensor | None,
    seeds: tuple[int, int],
    runtime: Runtime,
) -> Iterator[tuple[Batch, Losses]]:
    """One optimizer step's gradients: the mean over all masked positions of all processes.

    Args:
      batches: this process's micro-batches, by lane.
      positions: masked positions of the step's micro-batches, of all processes.
      weights: lambda of each language.
      owned_TV: bool, which teacher has which token, to normalise over it; or None.
      seeds: (seed, step). Dropout is a function of them and the lane, so that a resumed run repeats it.

    Yields each of this process's batches with its losses, after their backward pass.
    """
    objective = Objective(config.tail, config.temperature)
    for number, (lane, batch) in enumerate(batches.items(), 1):
        torch.manual_seed(_seed(*seeds, lane))
        batch = batch.to(runtime.device)
        lambda_M = position_weights(batch, weights, config.confidence_power)
        ownership = None if owned_TV is None else Ownership(owned_TV, batch.teacher_M)
        waits = isinstance(parallel, nn.parallel.DistributedDataParallel) and number < len(batches)
        with parallel.no_sync() if waits else nullcontext():
            with runtime.autocast():
                losses = parallel(batch, lambda_M, objective, ownership)
            # Divided once, by the step's positions; gradients are averaged over processes.
            (losses.total * (runtime.world_size / positions)).backward()
        yield batch, losses


def apply_gradients(
    module: nn.Module, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, max_grad_norm: float
) -> torch.Tensor:
    """One step of the optimizer, which leaves the weights where the gradient is not finite.

    Returns whether it was left out, a bool scalar on the device: the host does not wait for it.
    """
    norm = nn.utils.clip_grad_norm_(module.parameters(), max_grad_norm)
    is_bad = ~torch.isfinite(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    # What GradScaler uses: the fused kernels look at it.
    optimizer.found_inf = is_bad.float()
    optimizer.step()
    optimizer.zero_grad()
    scheduler.step()
    return is_bad


def _seed(*numbers: int) -> int:
    """A 63-bit seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
