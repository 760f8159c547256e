"""Candidates for teachers, ranked on one language's text.

What a student learns is bounded by how well its teacher predicts: its loss follows the teacher's cross-entropy (Busbridge
et al. 2025, "Distillation Scaling Laws", arXiv 2502.08606). Cross-entropies a token do not compare between tokenizers; bits
per character do, so they rank. The other figures are shown, but do not rank.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.evaluation.statistics import Difference, interval, paired
from trainer.evaluation.tasks.task import Ratio

RANKED_BY = "bits_per_character"
# Characters in unknown tokens are never predicted, nor taught. Where they are the majority, a candidate does not read the
# language, whatever it makes of the rest.
MOST_UNKNOWN = 0.5
# From this share of characters on, it matters that a tokenizer hides or changes them.
MANY = 0.005


@dataclass(frozen=True)
class Measured:
    """What was measured of one candidate on one language.

    Attributes:
      ratios: by figure, those that have a value for each record: `bits_per_character`, `unknown_rate` and others.
      figures: further ones, among them `changed_characters` and `operations_per_byte`.
    """

    name: str
    ratios: Mapping[str, Ratio]
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """One candidate's place in one language.

    Attributes:
      reads: whether it reads the language; a candidate that does not is not ranked.
      figures: the value of every figure of `Measured`.
      low, high: the 95 % interval of its bits per character.
      worse_than: the candidates that are clearly better.
      beside: the candidate that `differences` are to: the chosen one, or for that one the next; None where there is no other.
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
        """1 + the number of candidates that are clearly better; None where it does not read the language."""
        return 1 + len(self.worse_than) if self.reads else None


@dataclass(frozen=True)
class Ranking:
    """The candidates of one language, the chosen one first.

    Attributes:
      chosen: the teacher to take; None where no candidate reads the language.
      tied: the other candidates that no candidate is clearly better than.
    """

    language: str
    candidates: list[Candidate]
    chosen: str | None
    tied: list[str]


def rank(language: str, measured: Sequence[Measured], samples: int, seed: int = 0) -> Ranking:
    """Ranks the candidates of one language.

    A candidate is clearly better than another where the difference of their bits per character is clear, unless its tokenizer
    changes more of the characters, at least `MANY` of them: what it lowers or strips the other has to predict. Of those that no
    other is clearly better than, the one is chosen that takes the fewest operations for a byte of text, and of equal ones
    the first.

    Args:
      measured: in the configuration's order, all on the same records.
      samples: resamplings of the bootstrap.
    """
    readers = [one for one in measured if one.ratios["unknown_rate"].value <= MOST_UNKNOWN]
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

    def place(one: Measured) -> tuple[bool, int, float]:
        number = len(worse_than.get(one.name, []))
        decides = one.ratios[RANKED_BY].value if number else one.figures.get("operations_per_byte", math.inf)
        return one.name not in worse_than, number, decides

    # Sorting is stable, so that the configuration's order decides between equal ones.
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
    return Ranking(language, candidates, best[0] if best else None, best[1:])


def is_easier(figures: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Whether a candidate has less to predict than another, because its tokenizer changes more of the characters."""
    return figures["changed_characters"] - others["changed_characters"] >= MANY


def _difference(one: Measured, other: Measured, key: str, samples: int, seed: int) -> Difference:
    return paired(one.ratios[key], other.ratios[key], samples, seed)


def _is_worse(bits: Difference) -> bool:
    return bits.is_clear and bits.value > 0
