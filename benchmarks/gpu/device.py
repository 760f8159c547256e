"""The cost of a function on a device: time, the share of it in which the device is idle, operations, memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Figures:
    """The cost of one call.

    Attributes:
      seconds: the median of several calls.
      operations: floating-point operations of matrix products, without recomputation.
      waiting: the share of the time in which the device is idle; None on a CPU.
      gib: the peak memory of the device; None on a CPU.
    """

    seconds: float
    operations: int
    waiting: float | None
    gib: float | None


def measure(call: Callable[[], object], device: torch.device, repeats: int, operations: int | None = None) -> Figures:
    """Calls `call` a few times. Counts its operations if they are not given."""
    on_gpu = device.type == "cuda"
    call()
    if operations is None:
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm: _of_addmm}) as counter:
            call()
        operations = counter.get_total_flops()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = [_seconds(call, on_gpu) for _ in range(repeats)]
    wall = median(seconds)
    if not on_gpu:
        return Figures(wall, operations, None, None)
    gib = torch.cuda.max_memory_allocated(device) / 2**30
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        _seconds(call, on_gpu)
    busy = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
    return Figures(wall, operations, max(0.0, 1 - busy / wall), gib)


def _of_addmm(_, left: tuple[int, ...], right: tuple[int, ...], *_more, **_named) -> int:
    """Returns the operations of `addmm` for these shapes: torch's own count does not support `out_dtype`."""
    return 2 * left[0] * left[1] * right[1]


def peak(device: torch.device, size: int, repeats: int = 20) -> float:
    """Returns operations per second of a product of two bfloat16 matrices: the best rate of the device."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    on_gpu = device.type == "cuda"
    left @ right
    return 2 * size**3 / min(_seconds(lambda: left @ right, on_gpu) for _ in range(repeats))


def _seconds(call: Callable[[], object], on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started
