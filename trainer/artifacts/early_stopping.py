"""Which evaluation was the best so far, and whether it is time to stop."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.artifacts.scores import LanguageScores


@dataclass
class EarlyStopping:
    """What a run remembers of its evaluations; its fields go into the checkpoints.

    Attributes:
      heldout_sha256: of the predictions that were evaluated on; None without held-out predictions.
      step: of the last evaluation; None before the first.
      best_step, best_nll: of the best evaluation, which has the lowest mean over languages of the held-out negative
        log-likelihood (nats); None before the first.
      planned_nll: the lowest of the planned evaluations. An evaluation at the end of a run that is not due by itself
        would not have been made if the run had been longer, so it does not count towards when to stop.
      since_best: how many planned evaluations came after the lowest of them.
    """

    heldout_sha256: str | None
    step: int | None = None
    best_step: int | None = None
    best_nll: float | None = None
    planned_nll: float | None = None
    since_best: int = 0

    def add(self, step: int, scores: Mapping[str, LanguageScores], is_planned: bool = True) -> None:
        """Counts the evaluation of the student after `step`."""
        nll = sum(figures.nll for figures in scores.values()) / len(scores)
        self.step = step
        if _is_better(nll, self.best_nll):
            self.best_step, self.best_nll = step, nll
        if not is_planned:
            return
        if _is_better(nll, self.planned_nll):
            self.planned_nll, self.since_best = nll, 0
        else:
            self.since_best += 1

    def has_run_out(self, patience: int | None) -> bool:
        """Whether the last `patience` evaluations were no better than the best."""
        return patience is not None and self.since_best >= patience


def _is_better(nll: float, best: float | None) -> bool:
    """Whether `nll` is lower. NaN is never better, and every number is better than NaN."""
    return best is None or nll < best or math.isnan(best)
