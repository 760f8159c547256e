"""Masks text at the same places for every model, as far as its tokens allow.

Legend: N sequences, T tokens of all of them, concatenated; M masked tokens; C candidates: the ordinary tokens of one record.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from schemas.ragged import ranges
from trainer.evaluation.pieces import make_pieces

# BERT's share (Devlin et al. 2019), also the pipeline's default.
SHARE = 0.15


@dataclass(frozen=True)
class MaskedText:
    """N sequences with special tokens around them and at least one masked token in each.

    Attributes:
      ids_T: int64, after masking.
      lengths_N: int64.
      targets_M: int64, ascending, the indices of the masked tokens in T.
      labels_M: int64, the original tokens there.
      record_M: int64, the number of the record of each.
      starts_M: int64, the character of its record at which each begins.
    """

    ids_T: np.ndarray
    lengths_N: np.ndarray
    targets_M: np.ndarray
    labels_M: np.ndarray
    record_M: np.ndarray
    starts_M: np.ndarray


def mask_text(records: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int) -> MaskedText:
    """Replaces 15 % of the ordinary tokens of each record, at least one, by the mask token.

    Unlike in BERT, none becomes a random token or stays as it is, because that measures how well a model finds errors.
    Records of more than `max_length` tokens are cut at words.
    """
    pieces = make_pieces(records, tokenizer, max_length)
    record_T = np.repeat(pieces.text_P, pieces.lengths_P)
    ordinary = np.flatnonzero((pieces.starts_T >= 0) & ~np.isin(pieces.ids_T, tokenizer.all_special_ids))
    is_masked_T = np.zeros(len(record_T), bool)
    edges = np.searchsorted(record_T[ordinary], np.arange(len(records) + 1))
    for number, text in enumerate(records):
        candidates = ordinary[edges[number] : edges[number + 1]]
        is_masked_T[candidates[chosen(number, text, pieces.starts_T[candidates])]] = True
    ids_T = np.where(is_masked_T, tokenizer.mask_token_id, pieces.ids_T)

    masked_in_P = np.bincount(np.repeat(np.arange(len(pieces.lengths_P)), pieces.lengths_P), is_masked_T)
    kept = np.flatnonzero(masked_in_P)
    starts_P = np.cumsum(pieces.lengths_P) - pieces.lengths_P
    kept_T = ranges(starts_P[kept], pieces.lengths_P[kept])
    targets_M = np.flatnonzero(is_masked_T[kept_T])
    of_M = kept_T[targets_M]
    return MaskedText(
        ids_T[kept_T], pieces.lengths_P[kept], targets_M, pieces.ids_T[of_M], record_T[of_M], pieces.starts_T[of_M]
    )


def questions(masked: MaskedText, records: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> str:
    """Returns a sha256 over the places and texts of the masked tokens: equal for models that predict the same tokens.

    It works for tokenizers that write their tokens alike, such as those of a student and its teacher.
    """
    texts = {label: str(tokenizer.decode([label])).strip() for label in np.unique(masked.labels_M).tolist()}
    digest = hashlib.sha256()
    for record, start, label in zip(
        *(x.tolist() for x in (masked.record_M, masked.starts_M, masked.labels_M)), strict=True
    ):
        digest.update(f"{record}:{_without_space(records[record], start)}:{texts[label]}\n".encode(errors="replace"))
    return digest.hexdigest()


def chosen(record: int, text: str, starts_C: np.ndarray) -> np.ndarray:
    """Returns the indices of the tokens of a record to mask, ascending.

    They have the smallest hashes of the record's number and the character at which the token begins, so models whose tokens
    begin at the same characters predict the same ones.

    Args:
      starts_C: the character at which each ordinary token begins. White space there is skipped, because only some
        tokenizers include it in the token.
    """
    count = min(len(starts_C), max(1, round(SHARE * len(starts_C))))
    hashes_C = np.array([_hash(record, _without_space(text, start)) for start in starts_C.tolist()], np.uint64)
    return np.sort(np.argsort(hashes_C, kind="stable")[:count])


def _without_space(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def _hash(record: int, character: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{record}:{character}".encode(), digest_size=8).digest())
