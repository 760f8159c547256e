"""Where training runs: device, precision, and the other processes under torchrun."""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from schemas.errors import UserError, first_line
from schemas.precision import STUDENT_INSTRUCTIONS

Value = TypeVar("Value")


@dataclass(frozen=True)
class Runtime:
    """One process of a run."""

    rank: int
    world_size: int
    device: torch.device
    dtype: torch.dtype

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager:
        """Runs matrix products in `dtype`; does nothing if that is float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the sum over processes as a new tensor on the CPU. Waits for `tensor` if it is on a GPU."""
        # On the CPU, with gloo: a sum of numbers that the host knows must not wait for the GPU.
        total = tensor.to("cpu", copy=True)
        if self.world_size > 1:
            self._together(dist.all_reduce, total)
        return total

    def gather(self, value: object) -> list:
        """Returns the values of all processes, by rank."""
        values = [value]
        if self.world_size > 1:
            values = [None] * self.world_size
            self._together(dist.all_gather_object, values, value)
        return values

    def from_main(self, make: Callable[[], Value]) -> Value:
        """Returns the main process's result of `make` in all processes, or raises its UserError in all of them."""
        if self.world_size == 1:
            return make()
        given: list[Any] = [None]
        if self.is_main:
            try:
                given = [make()]
            except UserError as error:
                given = [error]
        self._together(partial(dist.broadcast_object_list, given, device=torch.device("cpu")))
        if isinstance(given[0], UserError):
            raise given[0]
        return given[0]

    def agree(self, value: int, what: str) -> int:
        """Returns `value` if every process has the same. Raises UserError if one differs."""
        values = torch.zeros(self.world_size, dtype=torch.int64)
        values[self.rank] = value
        values = self.all_reduce(values)
        if (values != value).any():
            raise UserError(
                f"the processes see different {what}: {values.tolist()}; put the output into a folder that all of them share"
            )
        return value

    def barrier(self) -> None:
        """Waits for the other processes."""
        if self.world_size > 1:
            self._together(dist.barrier)

    def _together(self, operation: Callable, *arguments) -> None:
        """Runs a collective operation of all processes. Raises UserError if another process has ended."""
        try:
            operation(*arguments)
        except RuntimeError as error:
            raise UserError(
                f"process {self.rank} stops because another process ended; that one's message says why ({first_line(error)})"
            ) from None

    def parallel(self, module: nn.Module, fsdp_layers: Iterable[nn.Module] | None = None) -> nn.Module:
        """Moves `module` to the device and averages its gradients over processes.

        With `fsdp_layers`, its parameters are sharded over the processes (FSDP2) and gathered when they are needed, one
        layer at a time. This replaces the parameter objects, so make the optimizer afterwards.
        """
        if self.world_size == 1:
            return module.to(self.device)
        if fsdp_layers is None:
            devices = [self.device.index] if self.device.type == "cuda" else None
            return nn.parallel.DistributedDataParallel(module.to(self.device), device_ids=devices)
        # `fully_shard` moves the shards itself, so that no GPU ever holds the whole module.
        mesh = init_device_mesh(self.device.type, (self.world_size,))
        policy = MixedPrecisionPolicy()
        if self.dtype == torch.bfloat16:
            # Weights are sent in the dtype of the products; gradients are summed in float32.
            policy = MixedPrecisionPolicy(self.dtype, torch.float32, cast_forward_inputs=False)
        for part in (*fsdp_layers, module):
            fully_shard(part, mesh=mesh, mp_policy=policy)
        return module


def start_runtime(precision: str) -> Runtime:
    """Joins the processes that torchrun started, if any, and chooses device and precision.

    Raises:
      UserError: there are more processes than GPUs.
    """
    world_size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        local_rank, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if local_rank >= gpus:
            raise UserError(
                f"process {local_rank} of this machine has no GPU, because only {gpus} can be seen here; start at most one "
                "process per GPU (torchrun --nproc-per-node), all with the same CUDA_VISIBLE_DEVICES"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if world_size > 1:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=_rendezvous_store(), rank=rank, world_size=world_size)
    return Runtime(rank, world_size, device, _dtype(precision, device))


def stop_runtime() -> None:
    """Leaves the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _rendezvous_store() -> dist.Store:
    """The store through which the processes of this attempt find each other."""
    store, _, _ = next(dist.rendezvous("env://"))
    # torchrun keeps one store over all restarts. Without a prefix, gloo would find the addresses of an earlier
    # attempt's processes there, and wait half an hour for them.
    return dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """Returns the dtype of a precision; `schemas.precision` defines `auto`."""
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_bfloat16 = any(torch.cpu.get_capabilities().get(name, False) for name in STUDENT_INSTRUCTIONS)
    return torch.bfloat16 if has_bfloat16 else torch.float32
