"""Lines of text, compressed or not: the bytes of a range, the lines that start in it, and their content."""

import codecs
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import BinaryIO

import pyarrow as pa

from schemas.corpus.encodings import HEAD_BYTES, check_plain, check_text
from schemas.corpus.files import CODECS, TextFile
from schemas.corpus.ranges import BLOCK, EMPTY, INVALID_JSON, INVALID_UTF8, TextRange, readable
from schemas.errors import UserError
from schemas.storage import filesystem

# Bytes read at a time beyond a range, for the end of its last line.
_BEYOND = 2**16
# Bytes first read from a compressed file and first unpacked; bytes unpacked at a time to read only its beginning.
_FIRST, _FEW = 2**16, 2**12


def blocks_with_lines(part: TextRange) -> Iterator[bytes]:
    """Yields blocks with the lines of a range: from the byte before it, if there is one, to the end of the file."""
    if part.file.codec:
        return _checked(part, _unpacked(part.file))
    size = part.file.size
    # The last line usually ends soon after the range, so read little more at first.
    beyond = min(_BEYOND, part.size)
    first = TextRange(part.file, max(0, part.start - 1), min(size, part.end + beyond))
    return _checked(part, chain(_stored(first), _following(part.file, first.end, beyond)))


def range_blocks(part: TextRange) -> Iterator[bytes]:
    """Yields the bytes of a range of lines, unpacked, in blocks. Raises UserError like `blocks_with_lines`."""
    return _checked(part, _unpacked(part.file) if part.file.codec else _stored(part))


def unpacked_share(file: TextFile) -> float:
    """Estimates from its beginning how much larger a compressed file is unpacked; exact for a small file."""
    fs, path = filesystem(file.url)
    with readable(file), fs.open(path, "rb", cache_type="none") as packed:
        stored = _Stored(packed, math.inf)
        stream = pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), file.codec)
        return len(stream.read(BLOCK)) / max(1, packed.tell() - len(stored._block))


def beginning(file: TextFile, most: int) -> Iterator[bytes]:
    """Yields the uncompressed content of the first `most` bytes of a file. Raises UserError like `blocks_with_lines`.

    Yields nothing if the compression format needs more bytes before it gives any.
    """
    part = TextRange(file, 0, min(most, file.size))
    # A compressed file that ends within `most` bytes must be whole; the limit cuts a longer one, which is no error.
    limit = most if most < file.size else math.inf
    return _checked(part, _unpacked(file, limit) if file.codec else _stored(part))


def lines_of(blocks: Iterable[bytes], part: TextRange, most: int) -> Iterator[tuple[int, bytes | None]]:
    """Yields start and content, without line end, of each line that starts in a range; None if above `most` bytes.

    Args:
      blocks: those of `blocks_with_lines`.
    """
    end = math.inf if part.file.codec else part.end
    # Anything before the first line end belongs to a line that starts before the range.
    start = max(0, part.start - 1)
    belongs = part.start == 0
    pending: list[bytes] = []
    size = 0

    def line() -> bytes | None:
        # One extra byte is allowed, because it may be the carriage return of the line end.
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
            # A line that starts before the range continues beyond it.
            return
        if start + size >= end and size > most + 1:
            # Already too long, wherever it ends.
            yield start, None
            return
    if size and belongs:
        yield start, line()


def decode(line: bytes) -> tuple[str, str]:
    """Returns text and fault of a line of text."""
    try:
        return line.decode("utf-8"), ""
    except UnicodeDecodeError:
        return "", INVALID_UTF8


def from_json(line: bytes, field: str) -> tuple[str, str]:
    """Returns text and fault of a JSON line."""
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
    except UnicodeEncodeError:  # It has an escaped half of a surrogate pair.
        return "", INVALID_UTF8
    return text, ""


def _checked(part: TextRange, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the blocks of a range of lines. Raises UserError if they begin a file that is not UTF-8 text."""
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
    check_text(file.shown, head, (*CODECS, ".parquet"))
    if not file.is_json_lines:
        check_plain(file.shown, head)
    elif head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise UserError(
            f"{file.shown}: is one JSON array, not one JSON object per line; convert it, e.g. `jq -c '.[]' OLD > NEW`"
        )
    yield from first
    yield from blocks


def _stored(part: TextRange) -> Iterator[bytes]:
    """Yields the bytes of a range of an uncompressed file."""
    fs, path = filesystem(part.file.url)
    for position in range(part.start, part.end, BLOCK):
        yield fs.cat_file(path, start=position, end=min(part.end, position + BLOCK))


def _following(file: TextFile, start: int, size: int) -> Iterator[bytes]:
    """Yields the bytes from `start` on, in growing blocks."""
    while start < file.size:
        end = min(file.size, start + size)
        yield from _stored(TextRange(file, start, end))
        start, size = end, min(2 * size, BLOCK)


class _Beginning(Exception):
    """The limit on bytes to read of a file is reached."""


class _Stored:
    """A compressed file for Arrow to read.

    It is fetched in growing blocks, so that a caller who needs only the beginning reads little more.
    """

    closed = False

    def __init__(self, stream: BinaryIO, most: float):
        self._stream = stream
        self._left = most
        self._size = _FIRST
        self._block = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """Returns up to `size` bytes. Raises `_Beginning` after `most` bytes in total."""
        if not self._block:
            if self._left <= 0:
                raise _Beginning
            self._block = memoryview(self._stream.read(int(min(self._size, self._left))))
            self._left -= len(self._block)
            self._size = min(2 * self._size, BLOCK)
        part, self._block = self._block[:size], self._block[size:]
        return part

    def close(self) -> None:
        """Does nothing: the code that opened the file closes it."""


def _unpacked(file: TextFile, most: float = math.inf) -> Iterator[bytes]:
    """Yields the content of a compressed file. Arrow reads all members of a file and notices a missing end.

    Args:
      most: how many bytes of the file to read.
    """
    fs, path = filesystem(file.url)
    # Without a cache, which would read megabytes ahead.
    with fs.open(path, "rb", cache_type="none") as packed:
        stream = pa.CompressedInputStream(pa.PythonFile(_Stored(packed, most), mode="r"), file.codec)
        size = _FEW if most < math.inf else _FIRST
        # The content of an incomplete block is lost, so blocks are small if the file is not read to its end.
        with suppress(_Beginning):
            while block := stream.read(size):
                yield block
                size = size if most < math.inf else min(2 * size, BLOCK)
