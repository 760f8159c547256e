"""Reading text: planning ranges of whole records, and the records of one range.

A *record* is a line of text, the text of one JSON line, or one value of a Parquet
column. Records are counted from 0 in each file. A range is read in bounded memory and
without reading what comes before it, except in a compressed file, which has to be
decompressed up to the range.
"""

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.sources import TextFile
from schemas.errors import UserError, first_line
from schemas.storage import filesystem

INVALID_UTF8, INVALID_JSON, EMPTY = "invalid UTF-8", "invalid JSON", "empty"
_BLOCK = 2**22


@dataclass(frozen=True)
class TextRange:
    """Consecutive records of one file.

    Attributes:
      start, end: where they lie: bytes of whole lines in a (decompressed) text file, or
        rows of a Parquet file.
      first_record, records: the first one's number, and how many there are.
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
    """One record: its text, or else why it has none."""

    number: int
    text: str
    fault: str = ""


def plan_file(file: TextFile, shard_bytes: int, pool: Executor) -> FilePlan:
    """Cuts a file into ranges of some `shard_bytes` of text; an empty file has none.

    Reads it once, in bounded memory, its parts in parallel. The fingerprint is sha256
    over the sha256 of each part.

    Raises:
      UserError: the file is truncated, not what its name says, or has no such column.
    """
    try:
        if file.is_parquet:
            return _plan_parquet(file, shard_bytes, pool)
        return _plan_lines(file, shard_bytes, pool)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file.url}: cannot be read ({first_line(error)})") from None


class _Cut(NamedTuple):
    """One part of a file: its first line end (-1 for none), how many, bytes, hash, and whether a line is left open."""

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


def _plan_parquet(file: TextFile, shard_bytes: int, pool: Executor) -> FilePlan:
    """Small row groups are read together; large ones are cut by rows, since their text's bytes are not indexed."""
    fs, path = filesystem(file.url)
    with fs.open(path, "rb") as stream:
        parquet = pq.ParquetFile(stream)
        schema, metadata = parquet.schema_arrow, parquet.metadata
    kind = schema.field(file.field).type if file.field in schema.names else None
    if kind is None or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        found = "no such column" if kind is None else f"a column of {kind}, not of strings"
        raise UserError(f"{file.url}: {file.field!r} is {found}; name one in `field`: {', '.join(schema.names)}")
    column = next(index for index in range(metadata.num_columns) if metadata.schema.column(index).path == file.field)
    ranges: list[TextRange] = []
    first = row = size = 0
    for group in range(metadata.num_row_groups):
        row += metadata.row_group(group).num_rows
        size += metadata.row_group(group).column(column).total_uncompressed_size
        if row > first and (size >= shard_bytes or group == metadata.num_row_groups - 1):
            count = min(row - first, max(1, size // shard_bytes))
            edges = [first + (row - first) * part // count for part in range(count + 1)]
            ranges += [
                TextRange(file, start, end, start, end - start, size // count)
                for start, end in zip(edges, edges[1:], strict=False)
            ]
            first, size = row, 0
    return FilePlan(ranges, _fingerprint(_scan_parts(file, _BLOCK, _BLOCK, pool)))


def _scan_parts(file: TextFile, first: int, size: int, pool: Executor) -> list[_Cut]:
    """Scans bytes [0, first) of a file, and then part after part of `size`, in parallel."""
    fs, path = filesystem(file.url)
    total = fs.size(path)
    edges = [0, *range(first, total, size), total]
    return list(pool.map(lambda start, end: _scan(_read(file, start, end)), edges[:-1], edges[1:]))


def _scan(blocks: Iterable[bytes]) -> _Cut:
    first_end, ends, size, digest, last = -1, 0, 0, hashlib.sha256(), b"\n"
    for block in blocks:
        if first_end < 0 and (found := block.find(b"\n")) >= 0:
            first_end = size + found
        ends += block.count(b"\n")
        size += len(block)
        digest.update(block)
        last = block[-1:]
    return _Cut(first_end, ends, size, digest.digest(), last != b"\n")


def _fingerprint(cuts: list[_Cut]) -> str:
    return hashlib.sha256(b"".join(cut.sha256 for cut in cuts)).hexdigest()


def read_records(part: TextRange) -> Iterator[Record]:
    """The records of a range, in order, those that cannot be used with their fault.

    Raises:
      UserError: the file is gone, or has another number of records than when it was planned.
    """
    file = part.file
    try:
        if file.is_parquet:
            values = _values(part)
        else:
            blocks = _decompressed(part) if file.codec else _read(file, part.start, part.end)
            values = (
                (_from_json(line, file.field) if file.is_json_lines else _decode(line)) for line in _lines(blocks)
            )
        number = part.first_record
        for text, fault in values:
            yield Record(number, text, fault or ("" if text and not text.isspace() else EMPTY))
            number += 1
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file.url}: cannot be read ({first_line(error)})") from None
    if number != part.first_record + part.records:
        raise UserError(f"{file.url}: changed since the run began; start again with a new output")


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
    except UnicodeEncodeError:  # An escaped half of a surrogate pair.
        return "", INVALID_UTF8
    return text, ""


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends, from blocks cut anywhere."""
    pending: list[bytes] = []
    for block in blocks:
        first, *others = block.split(b"\n")
        pending.append(first)
        for line in others:
            yield b"".join(pending).removesuffix(b"\r")
            pending = [line]
    if last := b"".join(pending):
        yield last.removesuffix(b"\r")


def _values(part: TextRange) -> Iterator[tuple[str, str]]:
    fs, path = filesystem(part.file.url)
    with fs.open(path, "rb") as stream:
        parquet = pq.ParquetFile(stream)
        counts = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        starts = [sum(counts[:group]) for group in range(len(counts))]
        groups = [
            group for group, start in enumerate(starts) if start < part.end and part.start < start + counts[group]
        ]
        row = starts[groups[0]] if groups else 0
        for batch in parquet.iter_batches(row_groups=groups, columns=[part.file.field]):
            inside = batch.column(0)[max(0, part.start - row) : max(0, part.end - row)]
            row += len(batch)
            # As bytes, since a foreign writer's strings need not be UTF-8.
            for text in inside.cast(pa.large_binary()).to_pylist():
                yield _decode(text or b"")
            if row >= part.end:
                break


def _read(file: TextFile, start: int, end: int) -> Iterator[bytes]:
    fs, path = filesystem(file.url)
    for position in range(start, end, _BLOCK):
        yield fs.cat_file(path, start=position, end=min(end, position + _BLOCK))


def _open(file: TextFile) -> pa.NativeFile:
    """A compressed file's content. By Arrow, which reads all members of a file and notices a missing end."""
    fs, path = filesystem(file.url)
    return pa.CompressedInputStream(pa.PythonFile(fs.open(path, "rb"), mode="r"), file.codec)


def _take(stream: pa.NativeFile, size: int) -> Iterator[bytes]:
    """Up to `size` bytes of a stream, in blocks."""
    while size and (block := stream.read(min(size, _BLOCK))):
        size -= len(block)
        yield block


# The stream that each thread read last, and where it stands: ranges of one file are
# mostly read in order, and a stream cannot go back.
_LAST = threading.local()


def _decompressed(part: TextRange) -> Iterator[bytes]:
    file, position, stream = getattr(_LAST, "stream", (None, 0, None))
    if file != part.file or position > part.start:
        position, stream = 0, _open(part.file)
    _LAST.stream = (None, 0, None)
    for block in _take(stream, part.start - position):
        position += len(block)
    try:
        for block in _take(stream, part.end - part.start):
            position += len(block)
            yield block
    finally:
        _LAST.stream = (part.file, position, stream)
