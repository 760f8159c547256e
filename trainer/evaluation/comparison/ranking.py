"""Ranks candidates for teachers on one language's text.

How well a teacher predicts bounds what a student learns: the student's loss follows the teacher's cross-entropy (Busbridge
et al. 2025, "Distillation Scaling Laws", arXiv 2502.08606). Cross-entropy per token is not comparable between tokenizers,
but bits per character are, so they decide the ranking. The other figures are only shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.evaluation.statistics import Difference, can_be_clear, interval, paired
from trainer.evaluation.tasks.task import Ratio

RANKED_BY = "bits_per_character"
# A candidate neither predicts nor teaches characters in unknown tokens. If they are the majority, it does not read the
# language, however well it predicts the rest.
MOST_UNKNOWN = 0.5
# The share of characters that a tokenizer must hide or change before it matters.
MANY = 0.005


@dataclass(frozen=True)
class Measured:
    """The measurements of one candidate on one language.

    Attributes:
      ratios: by name, the figures that have a value for each record: `bits_per_character`, `unknown_rate` and others.
      figures: the other figures, among them `changed_characters` and, unless all tokens are unknown, `operations_per_byte`.
    """

    name: str
    ratios: Mapping[str, Ratio]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """One candidate's place in the ranking of one language.

    Attributes:
      reads: whether it reads the language; a candidate that does not is not ranked.
      figures: the value of every figure of `Measured`.
      low, high: the 95 % interval of its bits per character.
      worse_than: the candidates that are clearly better.
      beside: the candidate it is compared with: the first one, or the second for the first itself; None if there is no other.
      differences: by figure, its value minus that of `beside`.
    """

    name: str
    reads: bool
    figures: dict[str, float]
    low: float
    high: float
    worse_than: list[str]
    beside: str | None
    differences: dict[str, Difference]

    @property
    def rank(self) -> int | None:
        """1 + the number of candidates that are clearly better; None if it does not read the language."""
        return 1 + len(self.worse_than) if self.reads else None


@dataclass(frozen=True)
class Ranking:
    """The candidates of one language, the chosen one first.

    Attributes:
      chosen: the teacher to take; None if no candidate reads the language.
      tied: the other candidates that no candidate is clearly better than.
      has_enough_records: whether there are enough for a difference to be clear.
    """

    language: str
    candidates: list[Candidate]
    chosen: str | None
    tied: list[str]
    has_enough_records: bool


def rank(language: str, measured: Sequence[Measured], samples: int, seed: int = 0) -> Ranking:
    """Ranks the candidates of one language.

    A candidate is clearly better than another if the difference of their bits per character is clear. It is not if its
    tokenizer changes a larger share of the characters, by at least `MANY`: the other has to predict the case or accents that
    it drops. Among candidates that no other clearly beats, the one with the fewest operations per byte of text is chosen,
    and the first in case of a tie. With too few records for any difference to be clear, the one with the fewest bits is.

    Args:
      measured: in the configuration's order, all on the same records.
      samples: the number of bootstrap resamplings.
    """
    # White space counts as characters, so a candidate for which all tokens are unknown may have a low share of them.
    readers = [
        one
        for one in measured
        if one.ratios["unknown_rate"].value <= MOST_UNKNOWN and "operations_per_byte" in one.figures
    ]
    worse_than = {
        one.name: [
            other.name
            for other in readers
            if other is not one
            and not is_easier(other.figures, one.figures)
            and _is_worse(_difference(one, other, RANKED_BY, samples, seed))
        ]
        for one in readers
    }

    has_enough_records = all(can_be_clear(len(one.ratios[RANKED_BY].numerators_U)) for one in readers)

    def place(one: Measured) -> tuple[bool, int, float]:
        number = len(worse_than.get(one.name, []))
        is_by_bits = number or not has_enough_records
        decides = one.ratios[RANKED_BY].value if is_by_bits else one.figures.get("operations_per_byte", math.inf)
        return one.name not in worse_than, number, decides

    # Sorting is stable, so the configuration's order breaks ties.
    ordered = sorted(measured, key=place)
    candidates = []
    for index, one in enumerate(ordered):
        other = ordered[0 if index else 1] if len(ordered) > 1 else None
        candidates.append(
            Candidate(
                one.name,
                one.name in worse_than,
                {key: ratio.value for key, ratio in one.ratios.items()} | dict(one.figures),
                *interval(one.ratios[RANKED_BY], samples, seed),
                worse_than.get(one.name, []),
                other.name if other else None,
                {key: _difference(one, other, key, samples, seed) for key in one.ratios} if other else {},
            )
        )
    best = [candidate.name for candidate in candidates if candidate.rank == 1]
    return Ranking(language, candidates, best[0] if best else None, best[1:], has_enough_records)


def is_easier(figures: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Whether a candidate has less to predict than another, because its tokenizer changes more of the characters."""
    return figures["changed_characters"] - others["changed_characters"] >= MANY


def _difference(one: Measured, other: Measured, key: str, samples: int, seed: int) -> Difference:
    return paired(one.ratios[key], other.ratios[key], samples, seed)


def _is_worse(bits: Difference) -> bool:
    return bits.is_clear and bits.value > 0
