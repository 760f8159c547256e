"""Rows laid end to end: `list_array` builds what a list of lists would, and `flatten` takes it apart again."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ragged import flatten, list_array

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
