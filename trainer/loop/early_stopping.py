"""Which evaluation was the best so far, and whether it is time to stop."""

import math
from dataclasses import dataclass


@dataclass
class Evaluations:
    """What a run remembers of its evaluations; its fields go into the checkpoints.

    Attributes:
      heldout_sha256: what they were measured on; None without held-out predictions.
      step: of the last one.
      best_step, best_nll: of the best one, whose mean over languages of the held-out negative
        log-likelihood (nats) is the lowest; None before the first.
      planned_nll: the lowest of the planned ones. One at the end of a run that is not due by itself would not have been
        made had the run been longer, so it does not count towards when to stop.
      since_best: how many planned ones came after that.
    """

    heldout_sha256: str | None
    step: int | None = None
    best_step: int | None = None
    best_nll: float | None = None
    planned_nll: float | None = None
    since_best: int = 0

    def add(self, step: int, evaluation: dict[str, dict], is_planned: bool = True) -> None:
        """Counts an evaluation, `trainer.loop.evaluate.evaluate`'s."""
        nll = sum(row["nll"] for row in evaluation.values()) / len(evaluation)
        self.step = step
        if _is_better(nll, self.best_nll):
            self.best_step, self.best_nll = step, nll
        if not is_planned:
            return
        if _is_better(nll, self.planned_nll):
            self.planned_nll, self.since_best = nll, 0
        else:
            self.since_best += 1

    def have_run_out(self, patience: int | None) -> bool:
        """Whether the last `patience` evaluations were no better than the best."""
        return patience is not None and self.since_best >= patience


def _is_better(nll: float, best: float | None) -> bool:
    """A NaN is never better, and always worse."""
    return best is None or nll < best or math.isnan(best)
