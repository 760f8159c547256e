"""The cost of running a model on a language's text."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from trainer.evaluation.batches import Batch, batches_of, forward_of
from trainer.evaluation.devices import device_of
from trainer.evaluation.masked_forward import MaskedForward
from trainer.evaluation.masking import mask_text
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.plain_text import PlainTextTask
from trainer.evaluation.tasks.task import Job, Scores

# The number of timed batches, from the shortest sequences to the longest, and of passes over them.
_BATCHES, _PASSES = 8, 3


class Cost(PlainTextTask):
    """Parameters, speed and memory of forward passes over masked text, in float32 on this machine.

    The head runs at masked tokens only.

    Figures:
      parameters, encoder_parameters: of the whole model, and of the encoder without token embeddings.
      operations_per_token: floating-point operations of all matrix products in the timed batches, attention included, as
        torch counts them.
      tokens_per_second: with special tokens, without padding; the median of a few passes over the same batches, after a
        warm-up pass. It is measured once and stored, like all scores: if another process disturbed it, delete
        `scores/cost` below the output folder and rerun on a quiet machine.
      peak_memory_mib: for one batch: the weights plus the most memory that torch holds at a time in addition, by its
        profiler (on a CPU) or its allocator (on a GPU). It excludes memory of libraries and the allocator's reserve.
    """

    key, title = "cost", "cost"
    metrics: ClassVar = ()
    version = 2
    needs_mask_token = True
    settings = ("max_length", "batch_tokens")

    def content(self, job: Job) -> Any:
        """The content of all tasks on text, plus the device, because speed and memory depend on it."""
        return [super().content(job), str(device_of(self.config.device))]

    def run(self, job: Job, model: Model) -> list[Scores]:
        """Measures a model on one language's text."""
        figures = sizes(model.masked_lm)
        masked = mask_text(
            list(self.texts[job.language]), model.tokenizer(job.language), min(self.config.max_length, model.max_length)
        )
        if len(masked.labels_M):
            with forward_of(model, job.language, masked) as forward:
                batches = list(batches_of(masked, forward, self.config.batch_tokens))
                spread = np.unique(np.linspace(0, len(batches) - 1, _BATCHES).astype(int))
                timed = [batches[number] for number in spread]
                tokens = sum(int(batch.attention_mask_BL.sum()) for batch in timed)
                figures["operations_per_token"] = operations(forward, timed) / tokens
                figures["tokens_per_second"] = tokens / _seconds(forward, timed, model.device)
                largest = max(batches, key=lambda batch: batch.ids_BL.size)
                figures["peak_memory_mib"] = (_weights(model.masked_lm) + _peak(forward, largest, model.device)) / 2**20
        return [Scores(job.language, {}, figures)]


def sizes(model: PreTrainedModel) -> dict[str, float]:
    """Returns the figures that depend only on the parameters."""
    rows: Any = model.get_input_embeddings().weight
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "encoder_parameters": sum(
            parameter.numel() for parameter in model.base_model.parameters() if parameter is not rows
        ),
    }


def operations(forward: MaskedForward, batches: Sequence[Batch]) -> int:
    """Returns floating-point operations of matrix products, counting two for each multiply-add."""
    # The counter knows matrix products, but not all fused attention kernels.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for batch in batches:
            forward.logits(batch.ids_BL, batch.attention_mask_BL, batch.rows_M)
    return counter.get_total_flops()


def _seconds(forward: MaskedForward, batches: Sequence[Batch], device: torch.device) -> float:
    """Returns the median time of a few passes over the batches, after a warm-up pass."""
    seconds = []
    for _ in range(1 + _PASSES):
        started = time.perf_counter()
        for batch in batches:
            forward.logits(batch.ids_BL, batch.attention_mask_BL, batch.rows_M)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def _peak(forward: MaskedForward, batch: Batch, device: torch.device) -> int:
    """Returns the most bytes that torch allocates for a batch and holds at one time."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        forward.logits(batch.ids_BL, batch.attention_mask_BL, batch.rows_M)
        return torch.cuda.max_memory_allocated(device) - before
    # Hides the profiler's start and stop messages from the user.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        forward.logits(batch.ids_BL, batch.attention_mask_BL, batch.rows_M)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    return max(accumulate(size for _, size in sorted(changes)), default=0)


def _weights(model: PreTrainedModel) -> int:
    """Returns the bytes of the model's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()])
