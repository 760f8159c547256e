"""Tracks the best evaluation so far, and when to stop."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.artifacts.scores import LanguageScores


@dataclass
class EarlyStopping:
    """What a run remembers of its evaluations; its fields go into the checkpoints.

    Attributes:
      heldout_sha256: identifies the held-out predictions; None if there are none.
      step: step of the last evaluation; None before the first.
      best_step, best_nll: step and value of the best evaluation, which has the lowest mean over languages of the
        held-out negative log-likelihood (nats); None before the first.
      planned_nll: the lowest value of the planned evaluations. An evaluation that is due only because the run ends
        would not have happened in a longer run, so it does not count towards stopping.
      since_best: how many planned evaluations came after the lowest one.
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
