"""Checks rows against `schemas.rows`: one row group at a time, in a few passes over its values.

Legend: N rows, L length of a sequence, M masked positions, K top-k, S tail samples,
V merged vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# float16 as unsigned bits: they are ordered by magnitude, and those of negative numbers are above all others.
_HALF_INFINITY = 0x7C00
_HALF_NEGATIVE_INFINITY = 0xFC00


@dataclass(frozen=True)
class Expected:
    """What the manifest and the footer say about a row group.

    Attributes:
      size: V.
      trimmed: predictions may be outside the vocabulary.
      tokens, masked_positions: in the row group.
    """

    language: str
    teacher: str
    top_k: int
    tail_samples: int
    size: int
    max_length: int
    trimmed: bool
    tokens: int
    masked_positions: int


@dataclass(frozen=True)
class Fault:
    """What is wrong, and the number of the row if one row is at fault."""

    row: int | None
    text: str


class _Bad(Exception):
    """Carries a `Fault` out of the checks."""

    def __init__(self, row: int | None, text: str):
        self.fault = Fault(row, text)


class _Lists:
    """A list column: row n is `values[offsets[n] : offsets[n + 1]]`."""

    def __init__(self, name: str, column: pa.ChunkedArray):
        chunks = column.chunks if column.num_chunks else [pa.array([], column.type)]
        array = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
        if array.null_count or array.values.null_count:
            raise _Bad(None, f"{name} has nulls")
        self.name = name
        offsets = array.offsets.to_numpy()
        self.offsets = offsets - offsets[0] if offsets[0] else offsets
        self.values = array.values.to_numpy()[offsets[0] : offsets[-1]]

    def fail(self, is_bad: np.ndarray, text: str) -> None:
        """Raises a fault for the first value where `is_bad` (bool, one per value)."""
        index = int(is_bad.argmax())
        raise _Bad(self.row_of(index), f"{self.name} {text}: {self.values[index]}")

    def row_of(self, index: int) -> int:
        """The row of the value at `index`."""
        return int(np.searchsorted(self.offsets, index, "right")) - 1

    def check_ids(self, size: int, trimmed: bool = False) -> None:
        """Refuses ids outside 0 to `size` - 1, except -1 if the vocabulary was trimmed."""
        # As unsigned numbers, negative ids are the largest.
        ids = self.values.view(np.uint32)
        if ids.max(initial=0) >= size:
            is_bad = ids >= size
            if trimmed:
                is_bad &= self.values != -1
            if is_bad.any():
                self.fail(is_bad, f"has an id outside the vocabulary of {size} tokens")

    def check_lengths(self, ends: np.ndarray, text: str) -> None:
        """Refuses rows that do not end at `ends` (int [N])."""
        is_bad = self.offsets[1:] != ends
        if is_bad.any():
            raise _Bad(int(is_bad.argmax()), f"{self.name} does not have {text}")


def find_fault(rows: pa.Table, expected: Expected) -> Fault | None:
    """Returns what is wrong with a row group, or None.

    Args:
      rows: any of the columns of `schemas.rows`, but `labels` need `masked_positions`, and the teacher's columns need
        `labels`. Checks everything that the given columns allow.
    """
    try:
        _check(rows, expected)
    except _Bad as bad:
        return bad.fault
    return None


def _check(rows: pa.Table, expected: Expected) -> None:
    columns = {}
    for name in rows.column_names:
        if pa.types.is_list(rows[name].type):
            columns[name] = _Lists(name, rows[name])
        elif rows[name].null_count:
            raise _Bad(None, f"{name} has nulls")
        else:
            try:
                rows[name].validate(full=True)
            except pa.ArrowInvalid:
                raise _Bad(None, f"{name} is not UTF-8") from None
    for name in {"language", "teacher"} & {*rows.column_names}:
        is_right = pc.equal(rows[name], getattr(expected, name))
        if not pc.all(is_right, min_count=0).as_py():
            row = pc.index(is_right, False).as_py()
            raise _Bad(row, f"{name} is {rows[name][row].as_py()[:100]!r}, not {getattr(expected, name)!r}")
    if ids := columns.get("input_ids"):
        _check_sequences(ids, expected)
        if positions := columns.get("masked_positions"):
            _check_positions(positions, np.diff(ids.offsets), expected)
    if labels := columns.get("labels"):
        ends = columns["masked_positions"].offsets[1:]
        labels.check_lengths(ends, "one label for each masked position")
        labels.check_ids(expected.size)
        _check_teacher(columns, ends, expected)


def _check_sequences(ids: _Lists, expected: Expected) -> None:
    lengths = np.diff(ids.offsets)
    if len(lengths) and not (lengths.min() >= 1 and lengths.max() <= expected.max_length):
        row = int(((lengths < 1) | (lengths > expected.max_length)).argmax())
        raise _Bad(row, f"has {lengths[row]} tokens, not 1 to {expected.max_length}")
    ids.check_ids(expected.size)
    if len(ids.values) != expected.tokens:
        raise _Bad(None, f"has {len(ids.values)} tokens, not {expected.tokens}")


def _check_positions(positions: _Lists, lengths: np.ndarray, expected: Expected) -> None:
    offsets, values = positions.offsets, positions.values
    counts = np.diff(offsets)
    # Usually every row has some, and a slice costs nothing.
    filled = slice(None) if counts.all() else np.flatnonzero(counts)
    first, last = offsets[:-1][filled], offsets[1:][filled] - 1
    # If they ascend, all are inside the row if the first and the last are.
    falls = values[1:] <= values[:-1]
    falls[last[:-1]] = False
    if falls.any():
        positions.fail(np.append(False, falls), "do not ascend")
    is_outside = (values.take(first) < 0) | (values.take(last) >= lengths[filled])
    if is_outside.any():
        row = int(np.arange(len(counts))[filled][is_outside.argmax()])
        raise _Bad(row, f"{positions.name} has a position outside the row of {lengths[row]} tokens")
    if len(values) != expected.masked_positions:
        raise _Bad(None, f"has {len(values)} masked positions, not {expected.masked_positions}")


def _check_teacher(columns: dict[str, _Lists], ends: np.ndarray, expected: Expected) -> None:
    top_k = expected.top_k
    if label := columns.get("label_logprobs"):
        label.check_lengths(ends if top_k else ends * 0, "a log-probability for each label that a teacher predicted")
        # Written so that NaN fails: every comparison with it is false.
        values = label.values
        if len(values) and not (values.max() <= 0 and values.min() > -np.inf):
            label.fail(~((values <= 0) & (values > -np.inf)), "has a value that is not a finite log-probability")
    if tail := columns.get("tail_ids"):
        tail.check_lengths(ends * expected.tail_samples, f"{expected.tail_samples} samples for each masked position")
        tail.check_ids(expected.size, expected.trimmed)
    ids, logprobs = columns.get("topk_ids"), columns.get("topk_logprobs")
    for column in (ids, logprobs):
        if column:
            column.check_lengths(ends * top_k, f"{top_k} predictions for each masked position")
    is_trimmed = ids is not None and expected.trimmed and ids.values.min(initial=0) < 0
    if ids and not is_trimmed:
        ids.check_ids(expected.size)
    if is_trimmed or (logprobs and not _descend(logprobs.values.view(np.uint16), top_k)):
        _check_predictions(ids, logprobs, expected)


def _descend(bits: np.ndarray, top_k: int) -> bool:
    """Whether float16 log-probabilities, given as bits, are finite, at most 0 and descend within each K."""
    if not len(bits):
        return True
    # From zero downwards, numbers descend while their bits ascend.
    if bits.max() >= _HALF_NEGATIVE_INFINITY or bits.view(np.int16).max() > 0:
        return False
    rises = bits[1:] < bits[:-1]
    return np.count_nonzero(rises) == np.count_nonzero(rises[top_k - 1 :: top_k])


def _check_predictions(ids: _Lists | None, logprobs: _Lists | None, expected: Expected) -> None:
    """The full check. In a trimmed vocabulary, id -1 goes with -inf, and the other predictions descend."""
    is_outside = None
    if ids:
        ids.check_ids(expected.size, expected.trimmed)
        is_outside = (ids.values == -1) & expected.trimmed
    if not logprobs:
        return
    bits = logprobs.values.view(np.uint16)
    magnitude = bits & 0x7FFF
    is_infinite = bits == _HALF_NEGATIVE_INFINITY
    if is_outside is None:
        is_outside = is_infinite & expected.trimmed
    is_bad = (is_infinite != is_outside) | (magnitude >= _HALF_INFINITY) & ~is_infinite
    # A positive number: no sign bit, and not zero.
    is_bad |= (bits == magnitude) & (magnitude > 0)
    if is_bad.any():
        logprobs.fail(is_bad, "has a value that is not a log-probability")
    ordered = np.where(is_outside, np.uint16(0), magnitude).reshape(-1, expected.top_k)
    highest = ordered[:, 0].copy()
    for column in range(1, expected.top_k):
        is_bad = (ordered[:, column] < highest) & ~is_outside.reshape(ordered.shape)[:, column]
        if is_bad.any():
            index = int(is_bad.argmax()) * expected.top_k + column
            raise _Bad(logprobs.row_of(index), f"topk_logprobs do not descend: {logprobs.values[index]}")
        np.maximum(highest, ordered[:, column], out=highest)
