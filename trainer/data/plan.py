"""Which rows a pool holds: a pure function of the manifests, the configuration and the seed.

For each language, lane i of n reads the row groups i, i + n, i + 2n, ... of an endless sequence: in every epoch, the
language's row groups in an order permuted by (seed, language, epoch). A pool has `pool_rows` rows, divided among the
languages at random by p^alpha: the next rows of each language in that lane.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from schemas.errors import UserError
from schemas.predictions import Predictions
from trainer.config import SamplingConfig

# The number of a row group in its language's endless sequence, and the next row in it.
Position = tuple[int, int]


class RowGroup(NamedTuple):
    """One row group: the number of its file (`Predictions.file`), its number in that file, and its rows."""

    file: int
    group: int
    rows: int


class RowGroupSequence:
    """The endless sequence of one language's row groups.

    Args:
      groups_G3: integers [G, 3], with the fields of `RowGroup`.
    """

    def __init__(self, groups_G3: np.ndarray, language: str, seed: int):
        self._groups_G3 = groups_G3
        self._seed = [seed, zlib.crc32(language.encode())]
        # Lanes progress together, so at most two epochs are in use.
        self._order = lru_cache(maxsize=2)(self._permutation)

    def __getitem__(self, number: int) -> RowGroup:
        epoch, index = divmod(number, len(self._groups_G3))
        return RowGroup(*self._groups_G3[self._order(epoch)[index]].tolist())

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self._seed, epoch]).permutation(len(self._groups_G3))


@dataclass(frozen=True)
class Mixture:
    """What is read, and in which proportions.

    Attributes:
      row_shares: float64, one for each language in order; they sum to 1.
      pool_rows: rows of a pool.
      lanes: number over all processes.
    """

    languages: Mapping[str, RowGroupSequence]
    row_shares: np.ndarray
    pool_rows: int
    seed: int
    lanes: int

    def first_positions(self, lane: int) -> dict[str, Position]:
        """The positions at which a lane begins."""
        return dict.fromkeys(self.languages, (lane, 0))


@dataclass(frozen=True)
class PlannedPiece:
    """Consecutive rows of one row group, whose number in its language's endless sequence is `number`."""

    language: str
    number: int
    row_group: RowGroup
    rows: slice


@dataclass(frozen=True)
class PoolPlan:
    """The rows of a pool.

    Attributes:
      positions: the lane's positions after the pool, by language.
      random: generator for the order of the pool's rows and batches.
    """

    pieces: list[PlannedPiece]
    positions: dict[str, Position]
    random: np.random.Generator


def make_mixture(predictions: Predictions, sampling: SamplingConfig, seed: int, lanes: int) -> Mixture:
    """Mixes the wanted languages by p^alpha of their masked positions. Raises UserError like `choose_languages`."""
    languages = choose_languages(predictions, sampling.languages)
    language_F = predictions.numbered_languages(languages)
    rows, positions = (
        np.bincount(language_F + 1, predictions.counts(column), len(languages) + 1)[1:]
        for column in ("rows", "masked_positions")
    )
    # Convert shares of positions into shares of rows, because rows are drawn.
    shares = positions**sampling.alpha * rows / positions
    return Mixture(
        languages={
            name: RowGroupSequence(groups_G3, name, seed)
            for name, groups_G3 in zip(languages, _row_groups(predictions, language_F, len(languages)), strict=True)
        },
        row_shares=shares / shares.sum(),
        pool_rows=sampling.shuffle_rows,
        seed=seed,
        lanes=lanes,
    )


def plan_pool(mixture: Mixture, lane: int, number: int, positions: Mapping[str, Position]) -> PoolPlan:
    """Plans pool `number` of a lane whose languages are at `positions`."""
    random = np.random.default_rng([mixture.seed, lane, number])
    counts = random.multinomial(mixture.pool_rows, mixture.row_shares).tolist()
    pieces, positions_after = [], {}
    for language, count in zip(mixture.languages, counts, strict=True):
        of_language, positions_after[language] = _take(mixture, language, count, positions[language])
        pieces += of_language
    return PoolPlan(pieces, positions_after, random)


def _take(mixture: Mixture, language: str, count: int, position: Position) -> tuple[list[PlannedPiece], Position]:
    """Returns the next `count` rows of a language from `position` on, and the position after them."""
    pieces = []
    number, row = position
    while count:
        row_group = mixture.languages[language][number]
        stop = min(row_group.rows, row + count)
        pieces.append(PlannedPiece(language, number, row_group, slice(row, stop)))
        count -= stop - row
        number, row = (number, stop) if stop < row_group.rows else (number + mixture.lanes, 0)
    return pieces, (number, row)


def _row_groups(predictions: Predictions, language_F: np.ndarray, languages: int) -> list[np.ndarray]:
    """For each language, integers [G, 3] with the fields of its non-empty `RowGroup`s, in the files' order."""
    groups_G3 = predictions.row_groups
    file_G, _, rows_G = groups_G3.T
    language_G = np.where(rows_G > 0, language_F[file_G], -1)
    order = np.argsort(language_G, kind="stable")
    edges = np.searchsorted(language_G[order], np.arange(languages + 1))
    return [groups_G3[order[start:end]] for start, end in pairwise(edges)]


def choose_languages(predictions: Predictions, wanted: list[str] | None) -> list[str]:
    """Returns the languages to read, sorted. Raises UserError for one that the predictions lack."""
    known = predictions.language_names
    if not known:
        raise UserError("the predictions have no rows; their _rejects folder says why the records were rejected")
    for language in wanted or []:
        if language not in known:
            raise UserError(
                f"sampling.languages: unknown language {language!r}; the predictions have: {', '.join(known)}"
            )
    return sorted(set(wanted)) if wanted else known
