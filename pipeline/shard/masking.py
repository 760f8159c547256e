"""Masking: a pure function of the tokens, the seed and each example id.

Randomness is counter-based, not drawn from a stream: the random numbers of a token are hashes of its example's key
and its position. So a sequence is masked the same way in any batch, worker, runner or retry, and a few NumPy calls
mask a whole shard.

Legend: a suffix says what an array has one entry for:
  N  sequence
  T  token of the concatenated sequences
  C  candidate: an ordinary token, which may become a target
  U  unit: candidates that are chosen together, either a single one or those of a whole word
  M  target
The rest of a name says what an entry refers to: `row_C` is the sequence of each candidate, `unit_C` its unit.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from pipeline.config import MaskingConfig
from pipeline.shard.flat_tokens import FlatTokens

_ROUND, _SELECT, _ACTION, _REPLACE, _BORDER = (np.uint64(stream << 32) for stream in range(5))
# A longer word is masked token by token: in scripts without spaces it is a clause.
_LONGEST_WORD = 8


@dataclass(frozen=True)
class MaskingVocabulary:
    """What masking needs to know about a teacher's vocabulary.

    Attributes:
      special_ids: int32, token ids that are never targets.
      ordinary_ids: int32, token ids from which random replacements are drawn.
      mask_id: the mask token.
    """

    special_ids: np.ndarray
    ordinary_ids: np.ndarray
    mask_id: int


@dataclass(frozen=True)
class Masked:
    """T tokens after masking, M of them targets.

    Attributes:
      input_ids_T: int32, the tokens after masking.
      targets_M: int64, ascending indices of the targets in [0, T).
      labels_M: int32, the original tokens at the targets.
    """

    input_ids_T: np.ndarray
    targets_M: np.ndarray
    labels_M: np.ndarray


def example_keys(seed: int, example_ids: list[str]) -> np.ndarray:
    """Returns uint64 [N]: a key for each example (one copy of a sequence)."""
    return np.array([example_key(seed, example_id) for example_id in example_ids], np.uint64)


def example_key(seed: int, example_id: str) -> int:
    """Returns a 64-bit key: the first bytes of sha256(seed, id)."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{example_id}".encode()).digest()[:8], "little")


def uniform(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Returns float64 in [0, 1): SplitMix64 of (key, counter), elementwise over uint64 arrays."""
    golden, one, two = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    with np.errstate(over="ignore"):
        x = keys + (counters + np.uint64(1)) * golden
        x = (x ^ (x >> np.uint64(30))) * one
        x = (x ^ (x >> np.uint64(27))) * two
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mask_tokens(tokens: FlatTokens, keys_N: np.ndarray, vocabulary: MaskingVocabulary, config: MaskingConfig) -> Masked:
    """Chooses targets and replaces them (Devlin et al. 2019, section 3.1).

    In each sequence, a share `mlm_probability` of its ordinary tokens become targets. The number is rounded up or down
    at random, so that its expectation is exact, but is at least one if there is an ordinary token. Targets are chosen
    uniformly without replacement. If `tokens` has words, whole words are chosen until the number is reached; the word
    that would exceed it is taken at random, such that the expectation stays exact.

    Args:
      tokens: special tokens included.
      keys_N: uint64, from `example_keys`.
    """
    row_T = np.repeat(np.arange(len(tokens.lengths_N)), tokens.lengths_N)
    position_T = (np.arange(len(row_T)) - tokens.starts_N[row_T]).astype(np.uint64)
    token_C = np.flatnonzero(~np.isin(tokens.ids_T, vocabulary.special_ids))
    row_C = row_T[token_C]

    available_N = np.bincount(row_C, minlength=len(keys_N))
    exact_N = available_N * config.mlm_probability
    floor_N = np.floor(exact_N)
    wanted_N = floor_N + (uniform(keys_N, np.full(len(keys_N), _ROUND)) < exact_N - floor_N)
    wanted_N = np.minimum(np.maximum(wanted_N, 1), available_N).astype(np.int64)

    unit_C = np.arange(len(token_C)) if tokens.words_T is None else _units(tokens.words_T[token_C], row_C)
    is_target_C = _choose(unit_C, row_C, wanted_N, keys_N, position_T[token_C])
    targets_M = token_C[is_target_C]

    keys_M, position_M = keys_N[row_T[targets_M]], position_T[targets_M]
    action_M = uniform(keys_M, position_M + _ACTION)
    draw_M = uniform(keys_M, position_M + _REPLACE)
    replacement_M = vocabulary.ordinary_ids[(draw_M * len(vocabulary.ordinary_ids)).astype(np.int64)]
    labels_M = tokens.ids_T[targets_M]
    input_ids_T = tokens.ids_T.copy()
    input_ids_T[targets_M] = np.select(
        [action_M < config.mask_replace_prob, action_M < config.mask_replace_prob + config.random_replace_prob],
        [vocabulary.mask_id, replacement_M],
        labels_M,
    )
    return Masked(input_ids_T, targets_M, labels_M)


def _units(word_C: np.ndarray, row_C: np.ndarray) -> np.ndarray:
    """Returns int64 [C], ascending: the unit of each candidate. Candidates of one word in one sequence share a unit."""
    begins_word_C = np.ones(len(word_C), bool)
    begins_word_C[1:] = (word_C[1:] != word_C[:-1]) | (row_C[1:] != row_C[:-1])
    word_sizes = np.diff(np.append(np.flatnonzero(begins_word_C), len(word_C)))
    return np.cumsum(begins_word_C | np.repeat(word_sizes > _LONGEST_WORD, word_sizes)) - 1


def _choose(
    unit_C: np.ndarray, row_C: np.ndarray, wanted_N: np.ndarray, keys_N: np.ndarray, position_C: np.ndarray
) -> np.ndarray:
    """Returns bool [C]: the candidates in each sequence's first units, in random order, up to the wanted number."""
    if not len(unit_C):
        return np.zeros(0, bool)
    first_candidate_U = np.flatnonzero(np.diff(unit_C, prepend=-1))
    size_U = np.diff(np.append(first_candidate_U, len(unit_C)))
    row_U, position_U = row_C[first_candidate_U], position_C[first_candidate_U]
    order = np.lexsort((uniform(keys_N[row_U], position_U + _SELECT), row_U))

    # From here on, units are grouped by sequence, and in random order within a sequence.
    row_U, position_U, size_U = row_U[order], position_U[order], size_U[order]
    begins_row_U = np.diff(row_U, prepend=-1) != 0
    row_starts = np.flatnonzero(begins_row_U)
    before_U = np.cumsum(size_U) - size_U
    before_U -= np.repeat(before_U[row_starts], np.diff(np.append(row_starts, len(order))))
    left_U = wanted_N[row_U] - before_U
    exceeds_by_chance_U = uniform(keys_N[row_U], position_U + _BORDER) * size_U < left_U
    # The first unit of a sequence is always taken, so that the sequence has a target.
    is_taken_U = (left_U > 0) & ((left_U >= size_U) | exceeds_by_chance_U | begins_row_U)
    is_chosen_U = np.empty(len(order), bool)
    is_chosen_U[order] = is_taken_U
    return is_chosen_U[unit_C]
