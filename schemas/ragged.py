"""Rows of unequal length laid end to end, as both stages hold them.

Legend: N rows, T values in all, B rows of one batch, L padded length.
"""

import numpy as np
import pyarrow as pa


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[s0, s0+1, .., s0+l0-1, s1, ..]: the indices of many ranges, concatenated."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def pad(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray, filler: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 [B, L] of the rows at `starts`, padded on the right, and bool [B, L] of what is no padding."""
    inside_BL = np.arange(lengths.max()) < lengths[:, None]
    padded_BL = np.full(inside_BL.shape, filler, np.int64)
    padded_BL[inside_BL] = values[ranges(starts, lengths)]
    return padded_BL, inside_BL


def batches_by_length(
    lengths: np.ndarray, order: np.ndarray, max_tokens: int, counts: np.ndarray | None = None, max_count: int = 0
) -> list[np.ndarray]:
    """Row indices of each batch: rows by length, ties in `order`, cut at `max_tokens` padded tokens.

    With `counts` (int [N]) also cut where a batch's counts would exceed `max_count`. A
    row that is over a limit by itself is a batch of its own.
    """
    order = order[np.argsort(lengths[order], kind="stable")]
    batches, start, total = [], 0, 0
    weights = np.zeros(len(lengths), np.int64) if counts is None else counts
    for end, (length, count) in enumerate(zip(lengths[order].tolist(), weights[order].tolist(), strict=True)):
        # Sorted ascending, so this row's length is the batch's padded length.
        if end > start and (length * (end - start + 1) > max_tokens or total + count > max_count):
            batches.append(order[start:end])
            start, total = end, 0
        total += count
    return [*batches, order[start:]] if len(order) else []


def flatten(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(values, each row's start, each row's length) of a list column, N rows."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return array.values.to_numpy(zero_copy_only=False), offsets[:-1], np.diff(offsets)
