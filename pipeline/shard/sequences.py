"""From texts to sequences: tokenizing, cutting long records, packing short ones.

Legend: R records, S segments, N sequences, T tokens in all. Ids are the teacher's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pipeline.config import PipelineConfig
from pipeline.teachers.exact_tokenizer import tokenizer_faults
from pipeline.teachers.tokenizer import TeacherTokenizer
from schemas.ragged import ranges

TOO_SHORT, NO_TARGET = "too short", "nothing to mask"
_TOKENIZE_LINES = 1024


@dataclass(frozen=True)
class Sequences:
    """N unmasked sequences laid end to end, T tokens in all.

    Attributes:
      token_ids: int32 [T], special tokens included.
      lengths: int64 [N].
      records, numbers: int64 [N], the (first) record and the segment within it.
      words: int64 [T], equal for neighbours that are one word; None unless whole words are masked.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    records: np.ndarray
    numbers: np.ndarray
    words: np.ndarray | None


def make_sequences(
    records: Sequence[int], texts: Sequence[str], tokenizer: TeacherTokenizer, config: PipelineConfig
) -> tuple[Sequences, list[tuple[int, str]]]:
    """Tokenizes, and cuts long records into the fewest segments, of equal length give or take one.

    Equal lengths, so that no record ends in a stub of a few tokens. Segments of special
    (say, unknown) tokens alone have nothing to mask and are left out. With `packing`
    consecutive segments share a sequence while they fit.

    Returns:
      the sequences, and (record, reason) of the records that gave none.
    """
    own, lengths, words = _tokenize(texts, tokenizer, config.masking.whole_words)
    ordinary = np.concatenate([[0], np.cumsum(~np.isin(own, tokenizer.special_ids))])
    starts = np.cumsum(lengths) - lengths
    long_enough = lengths >= config.min_length
    usable = long_enough & (ordinary[starts + lengths] > ordinary[starts])

    room = config.max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
    counts = np.where(usable, -(-lengths // room), 0)
    owners = np.repeat(np.arange(len(lengths)), counts)
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    base, longer = lengths[owners] // counts[owners], lengths[owners] % counts[owners]
    sizes = base + (numbers < longer)
    begins = starts[owners] + numbers * base + np.minimum(numbers, longer)

    kept = ordinary[begins + sizes] > ordinary[begins]
    owners, numbers, begins, sizes = (array[kept] for array in (owners, numbers, begins, sizes))
    separator = len(tokenizer.suffix)
    firsts = _pack(sizes, room, separator) if config.packing else np.arange(len(sizes))
    sequences = _frame(own, words, begins, sizes, firsts, tokenizer)
    numbered = np.asarray(records, np.int64)
    rejects = [
        (records[index], NO_TARGET if long_enough[index] else TOO_SHORT) for index in np.flatnonzero(~usable).tolist()
    ]
    return Sequences(*sequences[:2], numbered[owners[firsts]], numbers[firsts], sequences[2]), rejects


def _tokenize(
    texts: Sequence[str], tokenizer: TeacherTokenizer, with_words: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(int32 [T] ids without special framing, int64 [R] lengths, int64 [T] word numbers or None)."""
    backend = tokenizer.hf.backend_tokenizer
    encode = backend.encode_batch if with_words else backend.encode_batch_fast
    ids, lengths, words, seen = [np.empty(0, np.int32)], [], [np.empty(0, np.int64)], 0
    for start in range(0, len(texts), _TOKENIZE_LINES):
        with tokenizer_faults(f"teacher {tokenizer.name!r}: its tokenizer fails on the text"):
            encodings = encode(texts[start : start + _TOKENIZE_LINES], add_special_tokens=False)
        ids.append(np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32))
        lengths += [len(encoding) for encoding in encodings]
        for encoding in encodings if with_words else ():
            # Tokens that belong to no word (added ones) are words of their own.
            own = [-1 - place if word is None else word for place, word in enumerate(encoding.word_ids)]
            words.append(np.cumsum(np.diff(np.array(own, np.int64), prepend=-1) != 0) + seen)
            seen += len(own) + 1
    return np.concatenate(ids), np.array(lengths, np.int64), np.concatenate(words) if with_words else None


def _pack(sizes: np.ndarray, room: int, separator: int) -> np.ndarray:
    """int64, ascending: the segments that begin a sequence, when each takes all that fit."""
    # With a separator after each segment, the last one's beyond the room.
    ends = np.concatenate([[0], np.cumsum(sizes + separator)])
    firsts, first = [], 0
    while first < len(sizes):
        firsts.append(first)
        first = max(first + 1, int(np.searchsorted(ends, ends[first] + room + separator, side="right")) - 1)
    return np.array(firsts, np.int64)


def _frame(
    own: np.ndarray,
    words: np.ndarray | None,
    begins: np.ndarray,
    sizes: np.ndarray,
    firsts: np.ndarray,
    tokenizer: TeacherTokenizer,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Lays the segments out as sequences: prefix, segments with the suffix after each.

    Returns:
      int32 [T] ids, int64 [N] lengths, int64 [T] word numbers (-1 for special tokens) or None.
    """
    prefix, suffix = np.array(tokenizer.prefix, np.int32), np.array(tokenizer.suffix, np.int32)
    begins_sequence = np.zeros(len(sizes), np.int64)
    begins_sequence[firsts] = 1
    blocks = begins_sequence * len(prefix) + sizes + len(suffix)
    block_starts = np.cumsum(blocks) - blocks
    bodies = block_starts + begins_sequence * len(prefix)

    token_ids = np.empty(blocks.sum(), np.int32)
    inside = ranges(bodies, sizes)
    token_ids[inside] = own[ranges(begins, sizes)]
    for place, special in enumerate(prefix):
        token_ids[block_starts[firsts] + place] = special
    for place, special in enumerate(suffix):
        token_ids[bodies + sizes + place] = special
    framed_words = None
    if words is not None:
        framed_words = np.full(len(token_ids), -1, np.int64)
        framed_words[inside] = words[ranges(begins, sizes)]
    lengths = np.add.reduceat(blocks, firsts) if len(firsts) else np.empty(0, np.int64)
    return token_ids, lengths, framed_words
