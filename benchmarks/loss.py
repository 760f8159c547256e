"""`python -m benchmarks.loss`: the sparse distillation loss compared with the dense computation.

Forward and backward over M masked positions, width H, a vocabulary of V, k predictions. Every way runs in a separate process:

  ours    `trainer.loss.sparse.distillation_loss`
  dense   what a user would write: logits, log_softmax, nll_loss, gather, the top-k and one class for the rest
  cut     `linear_cross_entropy` of cut-cross-entropy (its torch.compile implementation if there is no GPU): the MLM loss
          only, and without the bias of the projection, which it does not support
  liger   Liger's fused linear cross-entropy: the MLM loss only

Peak memory excludes the inputs and their gradients, which every way needs. On a GPU torch counts it; on a CPU the resident
set is sampled. The last two need `pip install -r benchmarks/requirements.txt`, and Liger needs a GPU.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from schemas.tables import format_table

WAYS = ("dense", "ours", "cut", "liger")


def problem(arguments: argparse.Namespace, device: str):
    """Returns (hidden, weight, bias), (labels, top-k ids, top-k log-probabilities), the same in every process."""
    import torch

    random = torch.Generator().manual_seed(0)
    m, h, v, k = arguments.positions, arguments.hidden, arguments.vocabulary, arguments.top_k
    hidden = torch.randn(m, h, generator=random)
    weight = torch.randn(v, h, generator=random).mul_(0.05)
    parameters = [x.to(device).requires_grad_() for x in (hidden, weight, torch.zeros(v))]
    ids = torch.randint(v, (m, k), generator=random)
    teacher = torch.randn(m, k + 1, generator=random).mul_(2).log_softmax(-1)[:, :k].sort(descending=True).values
    return parameters, [x.to(device) for x in (torch.randint(v, (m,), generator=random), ids, teacher)]


def make_loss(way: str, arguments: argparse.Namespace, device: str) -> tuple[Callable, list]:
    """Returns (a function that computes the summed loss, the parameters). Raises ImportError if the peer is not installed."""
    import torch
    from torch.nn import functional

    if way == "cut":
        from cut_cross_entropy import linear_cross_entropy
    if way == "liger":
        from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss
    parameters, (labels, ids, teacher) = problem(arguments, device)
    hidden, weight, bias = parameters

    def dense():
        student = functional.linear(hidden, weight, bias).float().log_softmax(-1)
        mlm = functional.nll_loss(student, labels, reduction="sum")
        top = student.gather(1, ids)
        p, rest = teacher.exp(), torch.log1p(-teacher.exp().sum(-1))
        student_rest = torch.log1p(-top.exp().sum(-1).clamp(max=1 - 1e-6))
        kd = (p * (teacher - top)).sum() + (rest.exp() * (rest - student_rest)).sum()
        return 0.5 * kd + 0.5 * mlm

    def ours():
        from trainer.loss.sparse import distillation_loss

        half = torch.full_like(labels, 0.5, dtype=torch.float32)
        return distillation_loss(hidden, weight, bias, labels, ids, teacher, half).total

    def cut():
        way = "cce" if device == "cuda" else "torch_compile"
        return linear_cross_entropy(hidden, weight, labels, reduction="sum", impl=way)

    def liger():
        return LigerFusedLinearCrossEntropyLoss(reduction="sum")(weight, hidden, labels, bias)

    return {"dense": dense, "ours": ours, "cut": cut, "liger": liger}[way], parameters


class PeakMemory:
    """The highest resident set (CPU) or allocation (GPU) since this object was made, in bytes."""

    def __init__(self, device: str):
        import torch

        self._device = device
        self._running = device == "cpu"
        self._start = self._peak = self._now()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        import torch

        self._running = False
        self._thread.join()
        return (torch.cuda.max_memory_allocated() if self._device == "cuda" else self._peak) - self._start

    def _sample(self) -> None:
        while self._running:
            self._peak = max(self._peak, self._now())
            time.sleep(0.002)

    def _now(self) -> int:
        if self._device == "cuda":
            import torch

            return torch.cuda.memory_allocated()
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * 4096


def measure(way: str, arguments: argparse.Namespace) -> dict:
    """Returns median seconds of a forward and backward pass, peak memory in GiB, and the loss per position."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    loss, parameters = make_loss(way, arguments, device)
    # Allocate the gradients before the measurement.
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter).add_(1)
    seconds = []
    for number in range(1 + arguments.repeats):
        for parameter in parameters:
            parameter.grad = None
        if number == 1:
            memory = PeakMemory(device)
        before = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=arguments.dtype == "bfloat16"):
            total = loss()
        total.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - before)
    gradients = sum(p.grad.numel() * p.grad.element_size() for p in parameters if p.grad is not None)
    return {
        "seconds": sorted(seconds[1:])[len(seconds[1:]) // 2],
        "gib": (memory.stop() - gradients) / 2**30,
        "loss": total.item() / arguments.positions,
    }


def main() -> int:
    """Prints a table; `--way` is for the processes that it starts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loss", description=__doc__.splitlines()[0])
    parser.add_argument("--positions", type=int, default=2048, help="masked positions, M")
    parser.add_argument("--hidden", type=int, default=768, help="width of the student, H")
    parser.add_argument("--vocabulary", type=int, default=250_000, help="merged tokens, V")
    parser.add_argument("--top-k", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default=None, help="default: both, one after the other"
    )
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments)))
        return 0
    print(f"M {arguments.positions:,}  H {arguments.hidden}  V {arguments.vocabulary:,}  k {arguments.top_k}")
    rows = []
    for dtype in [arguments.dtype] if arguments.dtype else ["float32", "bfloat16"]:
        dense = None
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.loss", *sys.argv[1:], "--dtype", dtype, "--way", way]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{way}, {dtype} did not run: {done.stderr.strip().splitlines()[-1]}")
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            dense = dense or row
            time_share, memory_share = row["seconds"] / dense["seconds"], row["gib"] / dense["gib"]
            rows.append(
                [
                    f"{way}, {dtype}",
                    f"{row['seconds']:.2f}",
                    f"{time_share:.2f}",
                    f"{row['gib']:.2f}",
                    f"{memory_share:.1%}",
                    f"{row['loss']:.4f}",
                ]
            )
    print(format_table(["", "seconds", "of dense", "extra GiB", "of dense", "loss"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
