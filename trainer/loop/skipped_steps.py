"""Counts, reports and limits the steps that were skipped because their gradient was NaN or infinite."""

import torch
from tqdm import tqdm

from schemas.errors import UserError, printable
from trainer.data.batches import Batch, Origins
from trainer.data.reader import example_ids
from trainer.distributed import Runtime
from trainer.loss.sparse import Losses

_NAMED = 5


class SkippedSteps:
    """Records on the device which steps were skipped, and reads that back only in `check`."""

    def __init__(self, limit: int, count: int, runtime: Runtime):
        self.count = count
        self._limit = limit
        self._runtime = runtime
        self._steps: list[tuple[int, torch.Tensor]] = []
        self._batches: list[tuple[int, torch.Tensor, torch.Tensor, Origins]] = []

    def add_batch(self, step: int, batch: Batch, losses: Losses) -> None:
        """Records a micro-batch of this process and which of its losses are finite."""
        rows_M = batch.rows_M // batch.input_ids_BL.shape[1]
        self._batches.append((step, rows_M, torch.isfinite(losses.mlm_M + losses.kd_M), batch.origins))

    def add_step(self, step: int, is_bad: torch.Tensor) -> None:
        """Records whether the step was skipped."""
        self._steps.append((step, is_bad))

    def check(self) -> None:
        """Counts the skipped steps since the last call.

        Raises:
          UserError: more steps were skipped than allowed. Names examples of the last one.
        """
        flags = torch.stack([flag for _, flag in self._steps]).tolist() if self._steps else []
        bad = [step for (step, _), is_bad in zip(self._steps, flags, strict=True) if is_bad]
        if bad:
            self.count += len(bad)
            at_fault = [name for names in self._runtime.gather(self._examples(bad[-1])) for name in names]
            named = ", ".join(at_fault[:_NAMED]) + (f" and {len(at_fault) - _NAMED} more" * (len(at_fault) > _NAMED))
            message = f"skipped, because the gradient was NaN or infinite: step {', '.join(map(str, bad))}; rows of the last: {named}"
            if self.count > self._limit:
                raise UserError(
                    f"{message}. {self.count} steps were skipped, more than max_skipped_steps ({self._limit}); "
                    "look at these rows, lower the learning rate, or set precision: float32"
                )
            if self._runtime.is_main:
                tqdm.write(f"warning: {printable(message)}")
        self._steps.clear()
        self._batches.clear()

    def _examples(self, step: int) -> list[str]:
        """Example ids of this process's rows with a non-finite loss at `step`; of all its rows if no process has any."""
        batches = [batch for batch in self._batches if batch[0] == step]
        at_fault = [rows_M[~is_finite_M].unique().tolist() for _, rows_M, is_finite_M, _ in batches]
        is_known = any(self._runtime.gather(any(at_fault)))
        return [
            name
            for (*_, origins), rows in zip(batches, at_fault, strict=True)
            for name in example_ids(origins, rows if is_known else range(len(origins.row_B)))
        ]
