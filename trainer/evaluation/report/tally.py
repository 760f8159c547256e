"""How often a student is better or worse than its teachers."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from trainer.evaluation.report.content import STUDENT_BETTER, TEACHER_BETTER, UNCLEAR, Comparison


class Tally(NamedTuple):
    """The number of comparisons with each outcome."""

    better: int
    unclear: int
    worse: int
    not_compared: int

    @property
    def compared(self) -> int:
        """Comparisons that have a verdict."""
        return self.better + self.unclear + self.worse


def tally_by_student(comparisons: Iterable[Comparison]) -> dict[str, Tally]:
    """Returns the tally of each student, in the order of the comparisons."""
    verdicts: dict[str, Counter[str]] = {}
    for comparison in comparisons:
        verdicts.setdefault(comparison.student, Counter())[comparison.verdict] += 1
    return {student: _tally(counts) for student, counts in verdicts.items()}


def _tally(counts: Counter[str]) -> Tally:
    better, unclear, worse = (counts[verdict] for verdict in (STUDENT_BETTER, UNCLEAR, TEACHER_BETTER))
    return Tally(better, unclear, worse, counts.total() - better - unclear - worse)
