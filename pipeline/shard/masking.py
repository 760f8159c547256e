"""Masking: a pure function of the tokens, the seed and each example id.

Randomness is counter-based, not drawn from a stream: every token's numbers are a hash
of its example's key and its position. So a row is masked the same whatever batch,
worker, runner or retry it is part of, and a whole shard is masked by a few NumPy calls.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from pipeline.config import MaskingConfig

_ROUND, _SELECT, _ACTION, _REPLACE, _BORDER = (np.uint64(stream << 32) for stream in range(5))
# A longer word is masked token by token: in scripts without spaces it is a clause.
_LONGEST_WORD = 8


@dataclass(frozen=True)
class Masked:
    """A masked flat sequence of T tokens in N rows, M of them targets.

    Attributes:
      input_ids: int32 [T], the tokens after masking.
      targets: int64 [M], ascending flat indices of the targets in [0, T).
      labels: int32 [M], the original tokens there.
    """

    input_ids: np.ndarray
    targets: np.ndarray
    labels: np.ndarray


def example_key(seed: int, example_id: str) -> int:
    """A 64-bit key for one example (one copy): the first bytes of sha256(seed, id)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{example_id}".encode()).digest()[:8], "little")


def uniform(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """float64 in [0, 1): SplitMix64 of (key, counter), elementwise over uint64 arrays."""
    golden, one, two = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    with np.errstate(over="ignore"):
        x = keys + (counters + np.uint64(1)) * golden
        x = (x ^ (x >> np.uint64(30))) * one
        x = (x ^ (x >> np.uint64(27))) * two
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mask_tokens(
    token_ids: np.ndarray,
    lengths: np.ndarray,
    keys: np.ndarray,
    special_ids: np.ndarray,
    ordinary_ids: np.ndarray,
    mask_id: int,
    config: MaskingConfig,
    words: np.ndarray | None = None,
) -> Masked:
    """Chooses targets and replaces them (Devlin et al. 2019, section 3.1).

    Each row gets `rate` times its ordinary tokens as targets, rounded up or down at
    random so that the expectation is exact, but at least one if it has any ordinary
    token. Which ones is uniform without replacement. With `words` whole words are chosen
    until the number is reached; the word that would exceed it is taken at random, such
    that the expectation stays exact.

    Args:
      token_ids: int32 [T], N rows laid end to end, own ids, special tokens included.
      lengths: int64 [N], summing to T.
      keys: uint64 [N], from `example_key`.
      special_ids: own ids that are never targets.
      ordinary_ids: own ids that random replacements are drawn from.
      mask_id: the mask token.
      words: int64 [T], equal numbers for the tokens of one word, which are neighbours.
    """
    rows = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    positions = (np.arange(len(token_ids)) - starts[rows]).astype(np.uint64)

    # The wanted number of targets a row.
    candidates = np.flatnonzero(~np.isin(token_ids, special_ids))
    available = np.bincount(rows[candidates], minlength=len(lengths))
    exact = available * config.mlm_probability
    floor = np.floor(exact)
    wanted = floor + (uniform(keys, np.full(len(keys), _ROUND)) < exact - floor)
    wanted = np.minimum(np.maximum(wanted, 1), available).astype(np.int64)

    units = np.arange(len(candidates)) if words is None else _units(words[candidates], rows[candidates])
    chosen = _choose(units, rows[candidates], wanted, keys, positions[candidates])
    targets = candidates[chosen]

    target_keys, counters = keys[rows[targets]], positions[targets]
    action = uniform(target_keys, counters + _ACTION)
    draw = uniform(target_keys, counters + _REPLACE)
    replacement = ordinary_ids[(draw * len(ordinary_ids)).astype(np.int64)]
    labels = token_ids[targets]
    masked = token_ids.copy()
    masked[targets] = np.select(
        [action < config.mask_replace_prob, action < config.mask_replace_prob + config.random_replace_prob],
        [mask_id, replacement],
        labels,
    )
    return Masked(masked, targets, labels)


def _units(words: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """int64 [C], ascending: which candidates are chosen together, those of one word in one row."""
    starts = np.ones(len(words), bool)
    starts[1:] = (words[1:] != words[:-1]) | (rows[1:] != rows[:-1])
    sizes = np.diff(np.append(np.flatnonzero(starts), len(words)))
    return np.cumsum(starts | np.repeat(sizes > _LONGEST_WORD, sizes)) - 1


def _choose(
    units: np.ndarray, rows: np.ndarray, wanted: np.ndarray, keys: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """bool [C]: the candidates in the first units of each row, in random order, up to its wanted number."""
    if not len(units):
        return np.zeros(0, bool)
    first = np.flatnonzero(np.diff(units, prepend=-1))
    sizes = np.diff(np.append(first, len(units)))
    unit_rows, unit_keys, counters = rows[first], keys[rows[first]], positions[first]
    order = np.lexsort((uniform(unit_keys, counters + _SELECT), unit_rows))
    sorted_rows, sorted_sizes = unit_rows[order], sizes[order]
    before = np.cumsum(sorted_sizes) - sorted_sizes
    row_starts = np.flatnonzero(np.diff(sorted_rows, prepend=-1))
    is_first = np.zeros(len(order), bool)
    is_first[row_starts] = True
    before -= np.repeat(before[row_starts], np.diff(np.append(row_starts, len(order))))
    left = wanted[sorted_rows] - before
    border = uniform(unit_keys, counters + _BORDER)[order] * sorted_sizes < left
    # A row's first word is taken in any case, lest the row have no target.
    taken = (left > 0) & ((left >= sorted_sizes) | border | is_first)
    chosen = np.empty(len(order), bool)
    chosen[order] = taken
    return chosen[units]
