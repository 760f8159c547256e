"""Lines of text, compressed or not: the bytes of a range, the lines that start in it, and what each of them says."""

import codecs
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import BinaryIO

import pyarrow as pa

from schemas.corpus.encodings import HEAD_BYTES, check_text
from schemas.corpus.files import TextFile
from schemas.corpus.ranges import BLOCK, EMPTY, INVALID_JSON, INVALID_UTF8, TextRange, readable
from schemas.errors import UserError
from schemas.storage import filesystem

# What is read beyond a range at a time, for the end of its last line.
_BEYOND = 2**16
# What is read of a compressed file first, and unpacked of it; and what is unpacked at a time where no more is read.
_FIRST, _FEW = 2**16, 2**12


def blocks_with_lines(part: TextRange) -> Iterator[bytes]:
    """What holds the lines of a range: from the byte before it, if there is one, to the end of the file, in blocks."""
    if part.file.codec:
        return _checked(part, _unpacked(part.file))
    size = part.file.size
    # Most often the last line ends soon after the range, so that little more is read with it.
    beyond = min(_BEYOND, part.size)
    first = TextRange(part.file, max(0, part.start - 1), min(size, part.end + beyond))
    return _checked(part, chain(_stored(first), _following(part.file, first.end, beyond)))


def range_blocks(part: TextRange) -> Iterator[bytes]:
    """The bytes of a range of lines, in blocks; of a compressed file its content. UserError as in `blocks_with_lines`."""
    return _checked(part, _unpacked(part.file) if part.file.codec else _stored(part))


def unpacked_share(file: TextFile) -> float:
    """About how many bytes a stored byte of a compressed file unpacks to, by its beginning; exact for a small file."""
    fs, path = filesystem(file.url)
    with readable(file), fs.open(path, "rb", cache_type="none") as packed:
        stored = _Stored(packed, math.inf)
        stream = pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), file.codec)
        return len(stream.read(BLOCK)) / max(1, packed.tell() - len(stored._block))


def beginning(file: TextFile, most: int) -> Iterator[bytes]:
    """What the first `most` bytes of a file of lines hold, uncompressed. UserError as in `blocks_with_lines`.

    That is nothing for a file whose compression gives nothing before more bytes.
    """
    part = TextRange(file, 0, min(most, file.size))
    # A file that ends here may be truncated; one that goes on is not.
    limit = most if most < file.size else math.inf
    return _checked(part, _unpacked(file, limit) if file.codec else _stored(part))


def lines_of(blocks: Iterable[bytes], part: TextRange, most: int) -> Iterator[tuple[int, bytes | None]]:
    """The lines that start in a range, without their ends: where each starts, and None for a line of more than `most` bytes.

    Args:
      blocks: as `blocks_with_lines` gives them.
    """
    end = math.inf if part.file.codec else part.end
    # What stands before the range is the end of a line that does not belong to it.
    start = max(0, part.start - 1)
    belongs = part.start == 0
    pending: list[bytes] = []
    size = 0

    def line() -> bytes | None:
        # One more byte is allowed, because it may be the carriage return of the line's end.
        whole = b"".join(pending).removesuffix(b"\r") if size <= most + 1 else None
        if whole is not None and start == 0:
            whole = whole.removeprefix(codecs.BOM_UTF8)
        return whole if whole is not None and len(whole) <= most else None

    for block in blocks:
        first, *others = block.split(b"\n")
        size += len(first)
        pending = [*pending, first] if size <= most + 1 else []
        for other in others:
            if belongs:
                yield start, line()
            belongs = True
            start += size + 1
            if start >= end:
                return
            pending, size = [other], len(other)
        if start + size >= end and not belongs:
            # The line before the range goes on beyond it.
            return
        if start + size >= end and size > most + 1:
            # Too long, wherever it ends.
            yield start, None
            return
    if size and belongs:
        yield start, line()


def decode(line: bytes) -> tuple[str, str]:
    """Text and fault of a line of text."""
    try:
        return line.decode("utf-8"), ""
    except UnicodeDecodeError:
        return "", INVALID_UTF8


def from_json(line: bytes, field: str) -> tuple[str, str]:
    """Text and fault of a JSON line."""
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


def _checked(part: TextRange, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks of a range of lines. UserError where they are from the beginning of a file that is no UTF-8 text."""
    if part.start:
        yield from blocks
        return
    file = part.file
    first: list[bytes] = []
    for block in blocks:
        first.append(block)
        if sum(map(len, first)) >= HEAD_BYTES:
            break
    head = b"".join(first)[:HEAD_BYTES]
    check_text(file.shown, head)
    if file.is_json_lines and head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise UserError(
            f"{file.shown}: is one JSON array, not a JSON object a line; convert it, e.g. `jq -c '.[]' OLD > NEW`"
        )
    yield from first
    yield from blocks


def _stored(part: TextRange) -> Iterator[bytes]:
    """The bytes of a range of a file that is not compressed."""
    fs, path = filesystem(part.file.url)
    for position in range(part.start, part.end, BLOCK):
        yield fs.cat_file(path, start=position, end=min(part.end, position + BLOCK))


def _following(file: TextFile, start: int, size: int) -> Iterator[bytes]:
    """The bytes from `start` on, in blocks that become larger."""
    while start < file.size:
        end = min(file.size, start + size)
        yield from _stored(TextRange(file, start, end))
        start, size = end, min(2 * size, BLOCK)


class _Beginning(Exception):
    """No more of a file is read."""


class _Stored:
    """A compressed file as Arrow reads it, a little at a time: asked for in blocks that become larger, so that who needs only
    its beginning reads little more."""

    closed = False

    def __init__(self, stream: BinaryIO, most: float):
        self._stream = stream
        self._left = most
        self._size = _FIRST
        self._block = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """Up to `size` bytes. `_Beginning` where that would be more than `most` in all."""
        if not self._block:
            if self._left <= 0:
                raise _Beginning
            self._block = memoryview(self._stream.read(int(min(self._size, self._left))))
            self._left -= len(self._block)
            self._size = min(2 * self._size, BLOCK)
        part, self._block = self._block[:size], self._block[size:]
        return part

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""


def _unpacked(file: TextFile, most: float = math.inf) -> Iterator[bytes]:
    """The content of a compressed file. Arrow reads all members of a file and notices a missing end.

    Args:
      most: bytes of the file that are read.
    """
    fs, path = filesystem(file.url)
    # Without a cache, which would read megabytes ahead.
    with fs.open(path, "rb", cache_type="none") as packed:
        stream = pa.CompressedInputStream(pa.PythonFile(_Stored(packed, most), mode="r"), file.codec)
        size = _FEW if most < math.inf else _FIRST
        # What was unpacked of a block that is not whole is lost, so they are small where the end is not read.
        with suppress(_Beginning):
            while block := stream.read(size):
                yield block
                size = size if most < math.inf else min(2 * size, BLOCK)
