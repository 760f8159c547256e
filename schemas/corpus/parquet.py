"""The rows of a Parquet file as records."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.corpus.lines import decode
from schemas.corpus.ranges import BLOCK, TOO_LONG, TextRange, readable
from schemas.errors import UserError
from schemas.storage import filesystem

_BATCH_ROWS = 2**14
# Rows of a batch of delta-encoded values, whose lengths are unknown before they are read.
_DELTA_ROWS = 16
# A page is unpacked as a whole. A row group beyond these limits is not text, whose bytes do not repeat that often.
_MOST_UNPACKED, _MOST_RATIO = 2**28, 200


def rows_of(part: TextRange) -> tuple[int, int, pq.FileMetaData]:
    """Returns the first row of a Parquet range, the row after the last, and the file's footer.

    Raises:
      UserError: the file has no such text column, or its content is not text.
    """
    file = part.file
    fs, path = filesystem(file.url)
    # Without a cache, which would read megabytes ahead.
    with readable(file), fs.open(path, "rb", cache_type="none") as stream:
        parquet = pq.ParquetFile(stream)
        schema, metadata = parquet.schema_arrow, parquet.metadata
    if schema.names.count(file.field) > 1:
        raise UserError(f"{file.shown}: has {schema.names.count(file.field)} columns called {file.field!r}; rename one")
    arrow_type = schema.field(file.field).type if file.field in schema.names else None
    if arrow_type is None or not _is_text(arrow_type):
        fault = "no such column" if arrow_type is None else f"a column of {arrow_type}, not of strings"
        raise UserError(f"{file.shown}: {file.field!r} is {fault}; name one in `field`: {', '.join(schema.names)}")
    for group in range(metadata.num_row_groups):
        chunk = _chunk(metadata, group, file.field)
        unpacked, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        if unpacked > max(_MOST_UNPACKED, _MOST_RATIO * packed):
            raise UserError(
                f"{file.shown}: row group {group} unpacks from {packed:,} to {unpacked:,} bytes, too many for text; "
                "leave the file out, or write it with fewer rows per row group"
            )
    first, end = (-(-place * metadata.num_rows // file.size) for place in (part.start, part.end))
    return first, end, metadata


def text_bytes(metadata: pq.FileMetaData, field: str) -> int:
    """Bytes of the text in a file; repeated values that are stored once count once."""
    return sum(_chunk(metadata, group, field).total_uncompressed_size for group in range(metadata.num_row_groups))


def values_of(part: TextRange, most: int) -> Iterator[tuple[int, str, str]]:
    """Yields number, text and fault of each row of a Parquet range."""
    first, end, metadata = rows_of(part)
    fs, path = filesystem(part.file.url)
    with fs.open(path, "rb") as stream:
        parquet = _parquet(stream, part.file.field)
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        starts = np.cumsum([0, *counts])
        groups = [group for group, count in enumerate(counts) if starts[group] < end and first < starts[group] + count]
        row = int(starts[groups[0]]) if groups else 0
        for lengths, indices, distinct in _batches(parquet, groups, part.file.field):
            inside = slice(max(0, first - row), max(0, end - row))
            decoded: dict[int, tuple[str, str]] = {-1: ("", "")}
            for number, index in enumerate(indices[inside].tolist(), row + inside.start):
                if index not in decoded:
                    decoded[index] = ("", TOO_LONG) if lengths[index] > most else decode(_bytes(distinct[index]))
                yield number, *decoded[index]
            row += len(indices)
            if row >= end:
                break


def _is_text(arrow_type: pa.DataType) -> bool:
    """Whether a type is any of Arrow's string types, or binary, which is read as UTF-8."""
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    is_string = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(
        test(arrow_type) for test in (*is_string, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    )


def _parquet(stream: BinaryIO, field: str) -> pq.ParquetFile:
    parquet = pq.ParquetFile(stream, buffer_size=BLOCK)
    if any(_is_delta(_chunk(parquet.metadata, group, field)) for group in range(parquet.num_row_groups)):
        # Arrow cannot read such a column as a dictionary.
        return parquet
    # As a dictionary, so that a repeated value takes memory once.
    return pq.ParquetFile(stream, read_dictionary=[field], buffer_size=BLOCK, metadata=parquet.metadata)


def _chunk(metadata: pq.FileMetaData, group: int, field: str) -> pq.ColumnChunkMetaData:
    described = metadata.row_group(group)
    chunks = (described.column(index) for index in range(described.num_columns))
    return next(chunk for chunk in chunks if chunk.path_in_schema == field)


def _is_delta(chunk: pq.ColumnChunkMetaData) -> bool:
    return any("DELTA" in name for name in chunk.encodings)


def _batches(
    parquet: pq.ParquetFile, groups: list[int], field: str
) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Array]]:
    """Yields, for a few rows at a time, the byte lengths of the distinct values, each row's index, and these values.

    A row's index refers to its value; it is -1 for a null.
    """
    for group in groups:
        chunk = _chunk(parquet.metadata, group, field)
        bytes_a_row = max(1, chunk.total_uncompressed_size // max(1, chunk.num_values))
        rows = _DELTA_ROWS if _is_delta(chunk) else max(1, min(_BATCH_ROWS, BLOCK // bytes_a_row))
        for batch in parquet.iter_batches(rows, row_groups=[group], columns=[field]):
            values = batch.column(0)
            if not pa.types.is_dictionary(values.type):
                values = values.dictionary_encode()
            distinct = values.dictionary
            arrow_type = distinct.type
            if pa.types.is_string_view(arrow_type) or pa.types.is_binary_view(arrow_type):
                distinct = distinct.cast(pa.large_binary())
            lengths = pc.binary_length(distinct).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
            indices = values.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            yield lengths, indices, distinct


def _bytes(value: pa.Scalar) -> bytes:
    # Not as_py, because the strings of another writer may not be UTF-8.
    buffer = value.as_buffer()
    return buffer.to_pybytes() if buffer else b""
