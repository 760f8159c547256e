"""Reading text: planning ranges of whole records, and the records of one range.

A *record* is a line of text, the text of one JSON line, or one value of a Parquet
column. Records are counted from 0 in each file. A range is read in bounded memory and
without reading what comes before it, except in a compressed file, which has to be
decompressed up to the range.
"""

import codecs
import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.corpus.config import MAX_RECORD_BYTES
from schemas.corpus.encodings import HEAD_BYTES, check_text
from schemas.corpus.files import TextFile
from schemas.errors import UserError, first_line
from schemas.storage import filesystem

INVALID_UTF8, INVALID_JSON, EMPTY, TOO_LONG = "invalid UTF-8", "invalid JSON", "empty", "too long"
_BLOCK = 2**22
_BATCH_ROWS = 2**14
# Values that are written as differences from the one before, so that their length is not known before they are read.
_DELTA_ROWS = 16
# A page has to be unpacked as a whole. A row group beyond these limits is not text, whose bytes do not repeat so often.
_MOST_UNPACKED, _MOST_RATIO = 2**28, 200


@dataclass(frozen=True)
class TextRange:
    """Consecutive records of one file.

    Attributes:
      start, end: where they are: bytes of whole lines in a (decompressed) text file, or
        rows of a Parquet file.
      first_record, records: the number of the first record, and how many there are.
      size: bytes of text, in a Parquet file roughly.
    """

    file: TextFile
    start: int
    end: int
    first_record: int
    records: int
    size: int


@dataclass(frozen=True)
class FilePlan:
    """A file cut into ranges, and a fingerprint of its content."""

    ranges: list[TextRange]
    sha256: str


class Record(NamedTuple):
    """One record: its text, or the reason why it has none."""

    number: int
    text: str
    fault: str = ""


def plan_file(file: TextFile, shard_bytes: int, pool: Executor, max_record_bytes: int = MAX_RECORD_BYTES) -> FilePlan:
    """Cuts a file into ranges of about `shard_bytes` of text; an empty file has none.

    Reads it once, in bounded memory, its parts in parallel. The fingerprint is sha256
    over the sha256 of each part.

    Raises:
      UserError: the file is truncated, not what its name says, not UTF-8, or has no such column.
    """
    try:
        if file.is_parquet:
            return _plan_parquet(file, shard_bytes, pool, max_record_bytes)
        _check_head(file)
        return _plan_lines(file, shard_bytes, pool)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file.shown}: cannot be read ({first_line(error)})") from None


def _check_head(file: TextFile) -> None:
    if file.codec:
        with _open(file) as stream:
            head = b"".join(_take(stream, HEAD_BYTES))
    else:
        head = b"".join(_read(file, 0, HEAD_BYTES))
    check_text(file.shown, head)
    if file.is_json_lines and head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise UserError(
            f"{file.shown}: is one JSON array, not a JSON object a line; convert it, e.g. `jq -c '.[]' OLD > NEW`"
        )


class _Cut(NamedTuple):
    """One part of a file: its first line end or -1, the number of line ends, bytes, hash, and whether its last line is open."""

    first_end: int
    ends: int
    size: int
    sha256: bytes
    is_open: bool


def _plan_lines(file: TextFile, shard_bytes: int, pool: Executor) -> FilePlan:
    """Ranges start at the first line on or after each multiple of `shard_bytes`."""
    # Parts are cut one byte before the multiples: a line that ends there starts on the multiple itself.
    if file.codec:
        with _open(file) as stream:
            cuts = [_scan(_take(stream, shard_bytes - 1))]
            while (cut := _scan(_take(stream, shard_bytes))).size:
                cuts.append(cut)
    else:
        cuts = _scan_parts(file, shard_bytes - 1, shard_bytes, pool)
    starts, position, lines = [(0, 0)], 0, 0
    for index, cut in enumerate(cuts):
        if index and cut.first_end >= 0:
            starts.append((position + cut.first_end + 1, lines + 1))
        position += cut.size
        lines += cut.ends
    last_line_is_open = any(cut.is_open for cut in [cut for cut in cuts if cut.size][-1:])
    starts = [start for start in starts if start[0] < position]
    ends = [*starts[1:], (position, lines + last_line_is_open)]
    return FilePlan(
        [
            TextRange(file, start, end, first, last - first, end - start)
            for (start, first), (end, last) in zip(starts, ends[: len(starts)], strict=True)
        ],
        _fingerprint(cuts),
    )


def _plan_parquet(file: TextFile, shard_bytes: int, pool: Executor, max_record_bytes: int) -> FilePlan:
    """Small row groups are read together; large ones are cut by rows, because the bytes of their text have no index."""
    fs, path = filesystem(file.url)
    with fs.open(path, "rb") as stream:
        parquet = pq.ParquetFile(stream)
        schema, metadata = parquet.schema_arrow, parquet.metadata
    if schema.names.count(file.field) > 1:
        raise UserError(f"{file.shown}: has {schema.names.count(file.field)} columns called {file.field!r}; rename one")
    arrow_type = schema.field(file.field).type if file.field in schema.names else None
    if arrow_type is None or not _is_text(arrow_type):
        fault = "no such column" if arrow_type is None else f"a column of {arrow_type}, not of strings"
        raise UserError(f"{file.shown}: {file.field!r} is {fault}; name one in `field`: {', '.join(schema.names)}")
    ranges: list[TextRange] = []
    first = row = size = 0
    for group in range(metadata.num_row_groups):
        row += metadata.row_group(group).num_rows
        chunk = _chunk(metadata, group, file.field)
        unpacked, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        if unpacked > max(_MOST_UNPACKED, _MOST_RATIO * packed):
            raise UserError(
                f"{file.shown}: row group {group} unpacks from {packed:,} to {unpacked:,} bytes, which is no text; "
                "leave the file out, or write it with fewer rows a row group"
            )
        # Where values are written once and referred to, the bytes in the file say nothing about those of the text.
        is_plain = not any("DICTIONARY" in name or "DELTA" in name for name in chunk.encodings)
        size += chunk.total_uncompressed_size if is_plain else _text_bytes(file, group, max_record_bytes)
        if row > first and (size >= shard_bytes or group == metadata.num_row_groups - 1):
            count = min(row - first, max(1, size // shard_bytes))
            edges = [first + (row - first) * part // count for part in range(count + 1)]
            ranges += [TextRange(file, start, end, start, end - start, size // count) for start, end in pairwise(edges)]
            first, size = row, 0
    return FilePlan(ranges, _fingerprint(_scan_parts(file, _BLOCK, _BLOCK, pool)))


def _is_text(arrow_type: pa.DataType) -> bool:
    """Whether Arrow has it as a string of any kind, or as binary values, which are read as UTF-8."""
    if pa.types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    is_string = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(
        test(arrow_type) for test in (*is_string, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    )


def _text_bytes(file: TextFile, group: int, max_record_bytes: int) -> int:
    """Bytes of the text of a row group, without records that are too long."""
    fs, path = filesystem(file.url)
    total = 0
    with fs.open(path, "rb") as stream:
        for lengths, indices, _ in _batches(_parquet(stream, file.field), [group], file.field):
            sizes = np.where(lengths <= max_record_bytes, lengths, 0)
            total += int(sizes[indices[indices >= 0]].sum())
    return total


def _parquet(stream: BinaryIO, field: str) -> pq.ParquetFile:
    parquet = pq.ParquetFile(stream, buffer_size=_BLOCK)
    if any(_is_delta(_chunk(parquet.metadata, group, field)) for group in range(parquet.num_row_groups)):
        # Arrow cannot read such a column as a dictionary.
        return parquet
    # As a dictionary, so that a repeated value is in memory once.
    return pq.ParquetFile(stream, read_dictionary=[field], buffer_size=_BLOCK, metadata=parquet.metadata)


def _chunk(metadata: pq.FileMetaData, group: int, field: str) -> pq.ColumnChunkMetaData:
    described = metadata.row_group(group)
    chunks = (described.column(index) for index in range(described.num_columns))
    return next(chunk for chunk in chunks if chunk.path_in_schema == field)


def _is_delta(chunk: pq.ColumnChunkMetaData) -> bool:
    return any("DELTA" in name for name in chunk.encodings)


def _batches(
    parquet: pq.ParquetFile, groups: list[int], field: str
) -> Iterator[tuple[np.ndarray, np.ndarray, pa.Array]]:
    """For a few rows at a time: the bytes of each distinct value, the index of each row's value or -1, and the values."""
    for group in groups:
        chunk = _chunk(parquet.metadata, group, field)
        bytes_a_row = max(1, chunk.total_uncompressed_size // max(1, chunk.num_values))
        rows = _DELTA_ROWS if _is_delta(chunk) else max(1, min(_BATCH_ROWS, _BLOCK // bytes_a_row))
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


def _scan_parts(file: TextFile, first: int, size: int, pool: Executor) -> list[_Cut]:
    """Scans bytes [0, first) of a file, and then part after part of `size`, in parallel."""
    fs, path = filesystem(file.url)
    total = fs.size(path)
    edges = [0, *range(first, total, size), total]
    return list(pool.map(lambda start, end: _scan(_read(file, start, end)), edges[:-1], edges[1:]))


def _scan(blocks: Iterable[bytes]) -> _Cut:
    first_end, ends, size, digest, last = -1, 0, 0, hashlib.sha256(), b"\n"
    for block in blocks:
        if first_end < 0 and (line_end := block.find(b"\n")) >= 0:
            first_end = size + line_end
        ends += block.count(b"\n")
        size += len(block)
        digest.update(block)
        last = block[-1:]
    return _Cut(first_end, ends, size, digest.digest(), last != b"\n")


def _fingerprint(cuts: list[_Cut]) -> str:
    return hashlib.sha256(b"".join(cut.sha256 for cut in cuts)).hexdigest()


class Decompressor:
    """Reads ranges of compressed files; serves one thread.

    A stream cannot go back, and has to be decompressed up to a range. Because the ranges of a file are mostly read in
    order, the stream that was read last stays open.
    """

    def __init__(self) -> None:
        self._last: tuple[TextFile, int, pa.NativeFile] | None = None

    def read(self, part: TextRange) -> Iterator[bytes]:
        """The bytes of a range, in blocks."""
        file, position, stream = self._last or (None, 0, None)
        self._last = None
        if stream is None or file != part.file or position > part.start:
            position, stream = 0, _open(part.file)
        for block in _take(stream, part.start - position):
            position += len(block)
        try:
            for block in _take(stream, part.end - part.start):
                position += len(block)
                yield block
        finally:
            self._last = (part.file, position, stream)


def read_records(
    part: TextRange, max_record_bytes: int = MAX_RECORD_BYTES, decompressor: Decompressor | None = None
) -> Iterator[Record]:
    """The records of a range, in order; a record that cannot be used has its fault.

    A line of more than `max_record_bytes` is never held in memory as a whole.

    Args:
      decompressor: give the same one for several ranges of a compressed file, so that it is decompressed once.

    Raises:
      UserError: the file is gone, or has another number of records than when it was planned.
    """
    file = part.file
    try:
        if file.is_parquet:
            values = _values(part, max_record_bytes)
        else:
            blocks = (decompressor or Decompressor()).read(part) if file.codec else _read(file, part.start, part.end)
            lines = _lines(blocks, max_record_bytes)
            if part.start == 0:
                lines = _without_mark(lines)
            parse = partial(_from_json, field=file.field) if file.is_json_lines else _decode
            values = (("", TOO_LONG) if line is None else parse(line) for line in lines)
        number = part.first_record
        for text, fault in values:
            yield Record(number, text, fault or ("" if text and not text.isspace() else EMPTY))
            number += 1
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file.shown}: cannot be read ({first_line(error)})") from None
    if number != part.first_record + part.records:
        raise UserError(f"{file.shown}: changed since the run began; start again with a new output")


def _decode(line: bytes) -> tuple[str, str]:
    try:
        return line.decode("utf-8"), ""
    except UnicodeDecodeError:
        return "", INVALID_UTF8


def _from_json(line: bytes, field: str) -> tuple[str, str]:
    if not line.strip():
        return "", EMPTY
    try:
        content = json.loads(line)
    except UnicodeDecodeError:
        return "", INVALID_UTF8
    except (ValueError, RecursionError):
        return "", INVALID_JSON
    text = content.get(field) if isinstance(content, dict) else None
    if not isinstance(text, str):
        return "", f"no text in {field!r}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # It holds an escaped half of a surrogate pair.
        return "", INVALID_UTF8
    return text, ""


def _lines(blocks: Iterable[bytes], most: int) -> Iterator[bytes | None]:
    """Lines without their ends, from blocks that are cut anywhere; None for a line of more than `most` bytes."""
    pending: list[bytes] = []
    size = 0

    def line() -> bytes | None:
        whole = b"".join(pending).removesuffix(b"\r")
        return whole if size <= most + 1 and len(whole) <= most else None

    for block in blocks:
        first, *others = block.split(b"\n")
        size += len(first)
        # One more byte is allowed, because it may be the carriage return of the line's end.
        pending = [*pending, first] if size <= most + 1 else []
        for other in others:
            yield line()
            pending, size = [other], len(other)
    if size:
        yield line()


def _without_mark(lines: Iterator[bytes | None]) -> Iterator[bytes | None]:
    """The lines of a file without the byte order mark that it may begin with."""
    for first in lines:
        yield first and first.removeprefix(codecs.BOM_UTF8)
        yield from lines


def _values(part: TextRange, most: int) -> Iterator[tuple[str, str]]:
    fs, path = filesystem(part.file.url)
    with fs.open(path, "rb") as stream:
        parquet = _parquet(stream, part.file.field)
        counts = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        starts = [sum(counts[:group]) for group in range(len(counts))]
        groups = [
            group for group, start in enumerate(starts) if start < part.end and part.start < start + counts[group]
        ]
        row = starts[groups[0]] if groups else 0
        for lengths, indices, distinct in _batches(parquet, groups, part.file.field):
            inside = indices[max(0, part.start - row) : max(0, part.end - row)]
            row += len(indices)
            decoded: dict[int, tuple[str, str]] = {-1: ("", "")}
            for index in inside.tolist():
                if index not in decoded:
                    decoded[index] = ("", TOO_LONG) if lengths[index] > most else _decode(_bytes(distinct[index]))
                yield decoded[index]
            if row >= part.end:
                break


def _bytes(value: pa.Scalar) -> bytes:
    # Not as_py, because the strings of another writer may not be UTF-8.
    buffer = value.as_buffer()
    return buffer.to_pybytes() if buffer else b""


def _read(file: TextFile, start: int, end: int) -> Iterator[bytes]:
    fs, path = filesystem(file.url)
    for position in range(start, end, _BLOCK):
        yield fs.cat_file(path, start=position, end=min(end, position + _BLOCK))


def _open(file: TextFile) -> pa.NativeFile:
    """The content of a compressed file. Arrow reads all members of a file and notices a missing end."""
    fs, path = filesystem(file.url)
    return pa.CompressedInputStream(pa.PythonFile(fs.open(path, "rb"), mode="r"), file.codec)


def _take(stream: pa.NativeFile, size: int) -> Iterator[bytes]:
    """Up to `size` bytes of a stream, in blocks."""
    while size and (block := stream.read(min(size, _BLOCK))):
        size -= len(block)
        yield block
