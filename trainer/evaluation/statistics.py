"""How certain a figure or a difference of two is: bootstrap intervals and paired tests over units.

Legend: U units (sentences, pairs, questions), R resamplings, K sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from trainer.evaluation.tasks.task import Ratio

LEVEL = 0.95
# A difference is clear only if its p-value is below this.
SIGNIFICANCE = 0.05
# Random numbers in memory at a time.
_CHUNK = 2**20


class Interval(NamedTuple):
    """A 95 % interval; NaN at both ends if there are fewer than two units."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One model's value minus another's, on the same units.

    Attributes:
      low, high: the ends of its 95 % interval; NaN if there are fewer than two units.
      p: how often a difference at least as large, in either direction, arises if the models are exchangeable.
    """

    value: float
    low: float
    high: float
    p: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0 and p is small."""
        return (self.low > 0 or self.high < 0) and self.p < SIGNIFICANCE


def can_be_clear(units: int) -> bool:
    """Whether a difference over so many units can be clear: of the 2^units exchanges, two at least give one as large."""
    return 2.0 ** (1 - units) < SIGNIFICANCE


def mean_over_seeds(ratios: Sequence[Ratio]) -> Ratio:
    """Averages several runs on the same units: each unit's numerators and its denominators.

    Resampling units then takes all runs of a unit together, because they are not independent. If the denominators are equal
    (accuracy, bits per character), the value is the mean of the runs' values. F1 is computed from the summed counts, the
    least biased way to average it (Forman and Scholz 2010, "Apples-to-apples in cross-validation studies").

    Raises:
      ValueError: there are no ratios, or their units differ.
    """
    _check_units(ratios)
    return Ratio(
        np.mean([ratio.numerators_U for ratio in ratios], axis=0),
        np.mean([ratio.denominators_U for ratio in ratios], axis=0),
    )


def interval(ratio: Ratio, samples: int, seed: int) -> Interval:
    """Returns the expanded percentile bootstrap interval of a ratio's value.

    U units are drawn with replacement, `samples` times, and each resampling gives a value. Resamplings whose denominators
    sum to 0 have no value and are left out. The percentiles are further out than 2.5 and 97.5 if there are few units:
    resampled values spread less than those of new samples, by a factor of sqrt((U - 1) / U), and a t distribution stands
    for the normal one (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 4.3).
    """
    sums_KR = _resampled([ratio.numerators_U, ratio.denominators_U], samples, seed)
    return _percentiles(_quotients(*sums_KR), len(ratio.numerators_U))


def paired(first: Ratio, second: Ratio, samples: int, seed: int) -> Difference:
    """Compares two models on the same units.

    The interval is that of `interval` for the difference, with the same resamplings for both models. The p-value is
    that of the paired approximate randomization test (Noreen 1989; Yeh 2000, "More accurate tests for the statistical
    significance of result differences"), which suits any ratio: in each unit the two models are exchanged or not, at random,
    and p is the share of `samples` such exchanges, plus the identity, that give an absolute difference at least as large.

    Raises:
      ValueError: their units differ.
    """
    _check_units([first, second])
    parts = [first.numerators_U, first.denominators_U, second.numerators_U, second.denominators_U]
    difference = first.value - second.value
    sums_KR = _resampled(parts, samples, seed)
    differences_R = _quotients(*sums_KR[:2]) - _quotients(*sums_KR[2:])
    exchanged_R = _exchanged(parts, samples, seed)
    # Sums in another order differ in their last bits, so ties need a tolerance. An exchange without a value is no evidence.
    tolerance = 1e-12 * max(abs(first.value), abs(second.value))
    at_least = ~(np.abs(exchanged_R) < np.abs(difference) - tolerance)
    return Difference(
        difference,
        *_percentiles(differences_R, len(first.numerators_U)),
        float((1 + at_least.sum()) / (1 + samples)) if np.isfinite(difference) else float("nan"),
    )


def _check_units(ratios: Sequence[Ratio]) -> None:
    if len(counts := {len(ratio.numerators_U) for ratio in ratios}) != 1:
        raise ValueError(f"the ratios have different numbers of units: {sorted(counts)}")


def _resampled(parts_KU: Sequence[np.ndarray], samples: int, seed: int) -> np.ndarray:
    """Returns [K, R]: the sums over each resampling of U units with replacement."""

    def sums(generator: np.random.Generator, count: int, units: int) -> np.ndarray:
        index_RU = generator.integers(units, size=(count, units))
        return np.stack([part_U[index_RU].sum(axis=1) for part_U in parts_KU])

    return _drawn(sums, len(parts_KU[0]), samples, seed)


def _exchanged(parts_KU: Sequence[np.ndarray], samples: int, seed: int) -> np.ndarray:
    """Returns [R]: the differences of values when the models are exchanged in random units."""
    first_UK, second_UK = np.stack(parts_KU[:2], axis=1), np.stack(parts_KU[2:], axis=1)
    total_K = (first_UK + second_UK).sum(axis=0)

    def sums(generator: np.random.Generator, count: int, units: int) -> np.ndarray:
        bits_RU = np.unpackbits(
            np.frombuffer(generator.bytes(count * -(-units // 8)), np.uint8).reshape(count, -1), axis=1
        )
        return (first_UK.sum(axis=0) + bits_RU[:, :units].astype(np.float64) @ (second_UK - first_UK)).T

    sums_KR = _drawn(sums, len(first_UK), samples, seed)
    return _quotients(*sums_KR) - _quotients(*(total_K[:, None] - sums_KR))


def _drawn(
    sums: Callable[[np.random.Generator, int, int], np.ndarray], units: int, samples: int, seed: int
) -> np.ndarray:
    """Returns `sums` as [K, R], computed for a bounded number of resamplings at a time."""
    if not units:
        raise ValueError("there are no units")
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // units)
    counts = [min(chunk, samples - start) for start in range(0, samples, chunk)]
    return np.concatenate([sums(generator, count, units) for count in counts], axis=1)


def _quotients(numerators_R: np.ndarray, denominators_R: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominators_R != 0, numerators_R / denominators_R, np.nan)


def _percentiles(values_R: np.ndarray, units: int) -> Interval:
    values_R = values_R[~np.isnan(values_R)]
    if units < 2 or not len(values_R):
        return Interval(float("nan"), float("nan"))
    expanded = np.sqrt(units / (units - 1)) * stats.t.ppf((1 + LEVEL) / 2, units - 1)
    low, high = np.quantile(values_R, stats.norm.cdf([-expanded, expanded]))
    return Interval(float(low), float(high))
