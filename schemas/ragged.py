"""Rows of unequal length, stored end to end, as both stages hold them.

Legend: N rows, T values in total, B rows of one batch, L padded length.
"""

import numpy as np
import pyarrow as pa


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[s0, s0+1, .., s0+l0-1, s1, ..]: the indices of many ranges, concatenated."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def pad(values: np.ndarray, lengths: np.ndarray, filler: int) -> tuple[np.ndarray, np.ndarray]:
    """Pads rows stored end to end in `values` on the right: returns [B, L], and bool [B, L], false for padding."""
    mask_BL = np.arange(lengths.max()) < lengths[:, None]
    padded_BL = np.full(mask_BL.shape, filler, values.dtype)
    padded_BL[mask_BL] = values
    return padded_BL, mask_BL


def batches_by_length(
    lengths: np.ndarray, order: np.ndarray, max_tokens: int, counts: np.ndarray | None = None, max_count: int = 0
) -> list[np.ndarray]:
    """Row indices of each batch: rows by length, ties in `order`, cut at `max_tokens` padded tokens.

    With `counts` (int [N]) a batch also ends before the sum of its counts would exceed `max_count`. A single row that
    exceeds a limit is its own batch.
    """
    # NumPy uses the faster radix sort for integers of at most 16 bits.
    keys = lengths[order].astype(np.min_scalar_type(lengths.max(initial=0)))
    order = order[np.argsort(keys, kind="stable")]
    sorted_lengths = lengths[order]
    # The sum of the counts before each row; the difference of two is the sum of the rows between them.
    before = np.concatenate([[0], np.cumsum(counts[order])]) if counts is not None else None
    batches, start = [], 0
    while start < len(order):
        longest = len(order) if before is None else np.searchsorted(before, before[start] + max_count, "right") - 1
        # Lengths ascend, so the padded length of a batch is that of its last row, and every row adds padded tokens.
        window = sorted_lengths[start : min(longest, start + max_tokens // max(1, sorted_lengths[start]))]
        size = max(1, int(np.searchsorted(window * np.arange(1, len(window) + 1), max_tokens, "right")))
        batches.append(order[start : start + size])
        start += size
    return batches


def flatten(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (values, each row's start, each row's length) of a list column with N rows."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return array.values.to_numpy(zero_copy_only=False), offsets[:-1], np.diff(offsets)


def list_array(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    """The reverse of `flatten`: returns N lists, where list n is `values[offsets[n] : offsets[n + 1]]`.

    Args:
      values: [T], of any Arrow type.
      offsets: integers [N + 1], ascending. One column holds at most 2**31 - 1 values.
    """
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
