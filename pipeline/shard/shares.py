"""Divides a language's records among several teachers, as a pure function of each record.

A record has a number u in [0, 1), a hash of the seed, its language, its file and its position there. The teachers'
shares are consecutive intervals of [0, 1), and a teacher reads the records whose number is in its interval. So exactly
one teacher reads every record, for any division into shards and workers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from pipeline.shard.masking import example_key, uniform


@dataclass(frozen=True)
class ShareInterval:
    """The records whose number is in [low, high)."""

    seed: int
    low: float
    high: float

    @property
    def size(self) -> float:
        """The share of the language's records that are in the interval."""
        return self.high - self.low

    def takes(self, language: str, source: str, records_R: np.ndarray) -> np.ndarray:
        """Returns bool [R]: whether records `records_R` (int64 numbers) of the file `source` are in the interval."""
        key = np.uint64(example_key(self.seed, f"share:{language}:{source}"))
        numbers_R = uniform(np.full(len(records_R), key), records_R.astype(np.uint64))
        return (self.low <= numbers_R) & (numbers_R < self.high)


def divide(shares: Mapping[str, float], seed: int) -> dict[str, ShareInterval]:
    """Returns the teachers' intervals, in order. They cover all of [0, 1); the shares sum to 1, except for rounding."""
    edges = [0.0, *list(accumulate(shares.values()))[:-1], 1.0]
    return {name: ShareInterval(seed, low, high) for name, (low, high) in zip(shares, pairwise(edges), strict=True)}
