"""Rows laid end to end: `list_array` builds what a list of lists would, and `flatten` takes it apart again."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ragged import batches_by_length, flatten, list_array

ROWS = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4), max_size=8)


@settings(deadline=None)
@given(ROWS)
def test_lists_are_those_of_a_loop(rows):
    values = np.array([value for row in rows for value in row], np.int32)
    column = list_array(values, np.cumsum([0, *map(len, rows)]))
    assert column.type == pa.list_(pa.int32()) and column.to_pylist() == rows


@settings(deadline=None)
@given(ROWS, st.integers(0, 8), st.integers(0, 8))
def test_flatten_reverses_it_for_a_slice_too(rows, start, length):
    whole = list_array(np.array([value for row in rows for value in row], np.int32), np.cumsum([0, *map(len, rows)]))
    values, starts, lengths = flatten(pa.chunked_array([whole.slice(start, length)]))
    taken = [values[begin : begin + size].tolist() for begin, size in zip(starts, lengths, strict=True)]
    assert taken == rows[start : start + length]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_values_keep_their_type(dtype):
    assert list_array(np.ones(3, dtype), np.array([0, 1, 3])).type.value_type == pa.from_numpy_dtype(dtype)


def test_batches_by_length_keep_their_limits():
    random = np.random.default_rng(0)
    lengths, counts = random.integers(1, 50, 500), random.integers(0, 9, 500)
    order = random.permutation(500)
    batches = batches_by_length(lengths, order, 128, counts, 12)
    assert sorted(np.concatenate(batches)) == list(range(500))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= 128
        assert len(batch) == 1 or counts[batch].sum() <= 12
    # Only rows of similar length share a batch, so there is little padding.
    assert sum(lengths[b].max() * len(b) for b in batches) < 1.02 * lengths.sum()
    assert batches_by_length(lengths[:0], order[:0], 128) == []


@pytest.mark.parametrize("max_tokens", [1, 30, 128, 10**6])
@pytest.mark.parametrize("max_count", [None, 1, 12])
def test_batches_by_length_are_filled_one_row_after_the_other(max_tokens, max_count):
    random = np.random.default_rng(1)
    lengths, counts = random.integers(1, 50, 300), random.integers(0, 9, 300)
    order = random.permutation(300)
    expected = [[]]
    for row in sorted(order, key=lambda row: lengths[row]):
        filled = [*expected[-1], row]
        is_over = lengths[row] * len(filled) > max_tokens or (max_count and counts[filled].sum() > max_count)
        expected[-1:] = [expected[-1], [row]] if is_over and expected[-1] else [filled]
    limits = (counts, max_count) if max_count else ()
    assert [batch.tolist() for batch in batches_by_length(lengths, order, max_tokens, *limits)] == expected
