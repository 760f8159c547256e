"""Training metrics: TensorBoard, and what the progress line shows."""

import time
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from trainer.collate import Batch
from trainer.loss import Losses
from trainer.runtime import Runtime


class Metrics:
    """Sums losses on the device and reads them back only at log steps, so training never waits for them."""

    def __init__(self, output: str, languages: list[str], steps: int, start: int, runtime: Runtime):
        self._runtime = runtime
        self._languages = languages
        self._sums = torch.zeros(len(languages), 3, device=runtime.device)
        self._tokens = 0
        self._since = time.monotonic()
        self._writer = SummaryWriter(str(Path(output) / "logs"), purge_step=start + 1) if runtime.is_main else None
        self._bar = tqdm(total=steps, initial=start, desc=Path(output).name, unit="step", disable=not runtime.is_main)

    def add(self, batch: Batch, losses: Losses) -> None:
        """Counts one micro-batch."""
        columns_MS = torch.stack([torch.ones_like(losses.mlm_M), losses.mlm_M, losses.kd_M], 1)
        self._sums.index_add_(0, batch.language_M, columns_MS.float())
        self._tokens += batch.input_ids_BL.numel()

    def step(self) -> None:
        """Moves the progress bar."""
        self._bar.update()

    def log(self, step: int, learning_rate: float, weight: float) -> None:
        """Writes and shows the means since the last call, over all processes."""
        sums = self._runtime.all_reduce(self._sums)
        tokens = self._runtime.all_reduce(torch.tensor([float(self._tokens)])).item()
        self._sums.zero_()
        now = time.monotonic()
        rate, self._since, self._tokens = tokens / (now - self._since), now, 0
        if not self._writer:
            return
        shown = []
        for language, (positions, mlm, kd) in zip(self._languages, sums.tolist(), strict=True):
            if positions:
                self._writer.add_scalar(f"mlm/{language}", mlm / positions, step)
                self._writer.add_scalar(f"kd/{language}", kd / positions, step)
                shown.append(f"{language} {mlm / positions:.2f}" + (f"/{kd / positions:.2f}" if kd else ""))
        self._writer.add_scalar("learning_rate", learning_rate, step)
        self._writer.add_scalar("distillation_weight", weight, step)
        self._writer.add_scalar("tokens_per_second", rate, step)
        self._bar.set_postfix_str(f"{', '.join(shown)}, {rate / 1000:.1f}k tokens/s")

    def log_evaluation(self, step: int, evaluation: dict[str, dict]) -> None:
        """Writes an evaluation's figures."""
        for language, row in evaluation.items():
            for name, value in row.items():
                if self._writer and value is not None:
                    self._writer.add_scalar(f"heldout_{name}/{language}", value, step)

    def close(self) -> None:
        """Ends the progress bar and the log."""
        self._bar.close()
        if self._writer:
            self._writer.close()
