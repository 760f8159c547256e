"""Turns records into sequences: tokenizes them, cuts long records and packs short ones.

Token ids are the teacher's. Legend: a suffix says what an array has one entry for:
  R  record that has text
  T  token of the concatenated texts, without special tokens around them
  S  segment: consecutive tokens of one record
  N  sequence: one segment, or with packing several, framed by special tokens
The rest of a name says what an entry refers to: `record_S` is the record of each segment, `segment_N` the first
segment of each sequence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from pipeline.config import PipelineConfig
from pipeline.shard.flat_tokens import FlatTokens
from pipeline.teachers.exact_tokenizer import tokenizer_faults
from pipeline.teachers.tokenizer import TeacherTokenizer
from schemas.corpus.records import Record
from schemas.ragged import ranges

TOO_SHORT, NO_TARGET = "too short", "nothing to mask"
_TOKENIZE_LINES = 1024


@dataclass(frozen=True)
class Sequences:
    """N unmasked sequences.

    Attributes:
      tokens: their tokens, special tokens included.
      sources: the file of the (first) record of each sequence, N strings.
      record_N: int64, the number of that record in its file.
      number_N: int64, the number of the (first) segment within that record.
    """

    tokens: FlatTokens
    sources: list[str]
    record_N: np.ndarray
    number_N: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens.lengths_N)

    def take(self, chosen: np.ndarray) -> "Sequences":
        """Returns the sequences with the indices `chosen`, in that order."""
        sources = [self.sources[index] for index in chosen.tolist()]
        return Sequences(self.tokens.take(chosen), sources, self.record_N[chosen], self.number_N[chosen])


class Reject(NamedTuple):
    """A record that cannot be used: its file, its number in that file, and the reason."""

    source: str
    record: int
    reason: str


class Tokenized(NamedTuple):
    """The result for `records` records: the sequences of the usable ones, and the rejects, in the order of the text."""

    records: int
    sequences: Sequences
    rejects: list[Reject]


def make_sequences(records: Iterable[Record], tokenizer: TeacherTokenizer, config: PipelineConfig) -> Tokenized:
    """Tokenizes, and cuts long records into the fewest segments, whose lengths differ by at most one token.

    So no record ends in a segment of only a few tokens. Segments of only special (for example unknown) tokens have
    nothing to mask and are left out. With `packing`, consecutive segments share a sequence while they fit.
    """
    records = list(records)
    readable = [record for record in records if not record.fault]
    tokens = _tokenize([record.text for record in readable], tokenizer, config.masking.whole_words)
    # Cumulative number of ordinary tokens: the difference of two entries is the number between them.
    ordinary = np.concatenate([[0], np.cumsum(~np.isin(tokens.ids_T, tokenizer.special_ids))])
    start_R, length_R = tokens.starts_N, tokens.lengths_N
    is_long_enough_R = length_R >= config.min_length
    is_usable_R = is_long_enough_R & (ordinary[start_R + length_R] > ordinary[start_R])
    room = config.max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
    segments = _cut(start_R, length_R, np.where(is_usable_R, -(-length_R // room), 0))
    segments = segments.take(ordinary[segments.start_S + segments.length_S] > ordinary[segments.start_S])

    count = len(segments.length_S)
    segment_N = _pack(segments.length_S, room, len(tokenizer.suffix)) if config.packing else np.arange(count)
    record_N = segments.record_S[segment_N].tolist()
    sequences = Sequences(
        tokens=_frame(tokens, segments, segment_N, tokenizer),
        sources=[readable[index].source for index in record_N],
        record_N=np.fromiter((readable[index].number for index in record_N), np.int64, len(record_N)),
        number_N=segments.number_S[segment_N],
    )
    faults = iter(np.where(is_usable_R, "", np.where(is_long_enough_R, NO_TARGET, TOO_SHORT)).tolist())
    reasons = [record.fault or next(faults) for record in records]
    rejects = [
        Reject(record.source, record.number, reason) for record, reason in zip(records, reasons, strict=True) if reason
    ]
    return Tokenized(len(records), sequences, rejects)


def _tokenize(texts: Sequence[str], tokenizer: TeacherTokenizer, with_words: bool) -> FlatTokens:
    """Tokenizes R texts, without special tokens around them."""
    backend = tokenizer.hf.backend_tokenizer
    encode = backend.encode_batch if with_words else backend.encode_batch_fast
    ids, lengths, words, words_before = [np.empty(0, np.int32)], [], [np.empty(0, np.int64)], 0
    for start in range(0, len(texts), _TOKENIZE_LINES):
        with tokenizer_faults(f"teacher {tokenizer.name!r}: its tokenizer fails on the text"):
            encodings = encode(texts[start : start + _TOKENIZE_LINES], add_special_tokens=False)
        ids.append(np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32))
        lengths += [len(encoding) for encoding in encodings]
        for encoding in encodings if with_words else ():
            # A token that belongs to no word (an added token) is its own word.
            word_of_token = [-1 - index if word is None else word for index, word in enumerate(encoding.word_ids)]
            words.append(np.cumsum(np.diff(np.array(word_of_token, np.int64), prepend=-1) != 0) + words_before)
            words_before += len(word_of_token) + 1
    ids_T = np.concatenate(ids)
    # Some SentencePiece tokenizers (Gemma's) do not split text at spaces, but mark them in tokens. Both numbers ascend.
    words_T = np.concatenate(words) + np.cumsum(tokenizer.starts_word[ids_T]) if with_words else None
    return FlatTokens(ids_T, np.array(lengths, np.int64), words_T)


@dataclass(frozen=True)
class _Segments:
    """S segments, int64 each: the index of their record in R, their number in it, and their start and length in T."""

    record_S: np.ndarray
    number_S: np.ndarray
    start_S: np.ndarray
    length_S: np.ndarray

    def take(self, chosen: np.ndarray) -> "_Segments":
        return _Segments(self.record_S[chosen], self.number_S[chosen], self.start_S[chosen], self.length_S[chosen])


def _cut(start_R: np.ndarray, length_R: np.ndarray, count_R: np.ndarray) -> _Segments:
    """Cuts each record into `count_R` segments, the longer ones first."""
    record_S = np.repeat(np.arange(len(length_R)), count_R)
    number_S = np.arange(len(record_S)) - np.repeat(np.cumsum(count_R) - count_R, count_R)
    shortest_S, longer_S = length_R[record_S] // count_R[record_S], length_R[record_S] % count_R[record_S]
    start_S = start_R[record_S] + number_S * shortest_S + np.minimum(number_S, longer_S)
    return _Segments(record_S, number_S, start_S, shortest_S + (number_S < longer_S))


def _pack(length_S: np.ndarray, room: int, separator: int) -> np.ndarray:
    """Returns int64 [N], ascending: the first segment of each sequence, when each sequence takes all that fit."""
    # Each segment has a separator after it. The separator after a sequence's last segment does not count for the room.
    ends = np.concatenate([[0], np.cumsum(length_S + separator)])
    firsts, first = [], 0
    while first < len(length_S):
        firsts.append(first)
        first = max(first + 1, int(np.searchsorted(ends, ends[first] + room + separator, side="right")) - 1)
    return np.array(firsts, np.int64)


def _frame(tokens: FlatTokens, segments: _Segments, segment_N: np.ndarray, tokenizer: TeacherTokenizer) -> FlatTokens:
    """Arranges the segments as sequences: the prefix, then the segments, each followed by the suffix.

    Special tokens have the word number -1.
    """
    prefix, suffix = np.array(tokenizer.prefix, np.int32), np.array(tokenizer.suffix, np.int32)
    begins_sequence_S = np.zeros(len(segments.length_S), np.int64)
    begins_sequence_S[segment_N] = 1
    # A block is a segment with the special tokens before and after it.
    block_length_S = begins_sequence_S * len(prefix) + segments.length_S + len(suffix)
    block_start_S = np.cumsum(block_length_S) - block_length_S
    body_start_S = block_start_S + begins_sequence_S * len(prefix)

    source = ranges(segments.start_S, segments.length_S)
    target = ranges(body_start_S, segments.length_S)
    ids = np.empty(block_length_S.sum(), np.int32)
    ids[target] = tokens.ids_T[source]
    for offset, special_id in enumerate(prefix):
        ids[block_start_S[segment_N] + offset] = special_id
    for offset, special_id in enumerate(suffix):
        ids[body_start_S + segments.length_S + offset] = special_id
    words = None
    if tokens.words_T is not None:
        words = np.full(len(ids), -1, np.int64)
        words[target] = tokens.words_T[source]
    lengths_N = np.add.reduceat(block_length_S, segment_N) if len(segment_N) else np.empty(0, np.int64)
    return FlatTokens(ids, lengths_N, words)
