"""Reading text: planning shards of whole lines, and the lines of one shard."""

import glob
import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.errors import UserError
from schemas.storage import filesystem

_BLOCK = 2**22


@dataclass(frozen=True)
class TextFile:
    """One file of one language. `source` is its name in example ids: the path below
    the folder that the pattern names, so that moving the corpus keeps the ids."""

    url: str
    source: str


@dataclass(frozen=True)
class LineRange:
    """Whole lines of one file: bytes [start, end), the first line's number (from 0)."""

    file: TextFile
    start: int
    end: int
    first_record: int


def find_files(language: str, patterns: list[str]) -> list[TextFile]:
    """The files of one language, sorted by source.

    Raises:
      UserError: a pattern matches nothing, or two files would share a source name.
    """
    files: dict[str, TextFile] = {}
    for pattern in patterns:
        fs, path = filesystem(pattern)
        is_glob = glob.has_magic(path)
        found = [match for match in fs.glob(path) if fs.isfile(match)] if is_glob else [path] if fs.isfile(path) else []
        if not found:
            raise UserError(f"text.{language}: no file matches {pattern!r}")
        base = posixpath.dirname(path)
        while glob.has_magic(base):
            base = posixpath.dirname(base)
        for match in found:
            file = TextFile(fs.unstrip_protocol(match), posixpath.relpath(match, base))
            if file.source in files:
                raise UserError(
                    f"text.{language}: {files[file.source].url} and {file.url} are both called {file.source!r} "
                    "in example ids; rename one, or put both below one pattern"
                )
            files[file.source] = file
    return [files[source] for source in sorted(files)]


@dataclass(frozen=True)
class FilePlan:
    """A file cut into ranges, and the sha256 of its content."""

    ranges: list[LineRange]
    sha256: str


def plan_file(file: TextFile, shard_bytes: int) -> FilePlan:
    """Cuts a file at line ends into ranges of at least `shard_bytes`, the last one excepted.

    Reads the file once, counting lines, in bounded memory. An empty file has no range.
    """
    fs, path = filesystem(file.url)
    ranges, digest = [], hashlib.sha256()
    start = record = position = lines = 0
    with fs.open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            # Offsets within the block at which a shard of enough bytes can end.
            offset = 0
            while True:
                wanted = start + shard_bytes - position
                newline = block.find(b"\n", max(offset, wanted - 1, 0))
                if newline < 0:
                    break
                lines += block.count(b"\n", offset, newline + 1)
                offset = newline + 1
                ranges.append(LineRange(file, start, position + offset, record))
                start, record = position + offset, lines
            lines += block.count(b"\n", offset)
            position += len(block)
    if position > start:
        ranges.append(LineRange(file, start, position, record))
    return FilePlan(ranges, digest.hexdigest())


def read_lines(lines: LineRange) -> Iterator[tuple[int, bytes]]:
    """(record number, line without its end) for every line of the range, in order."""
    fs, path = filesystem(lines.file.url)
    content = fs.cat_file(path, start=lines.start, end=lines.end)
    parts = content.split(b"\n")
    if parts[-1] == b"":
        parts.pop()
    for number, line in enumerate(parts, lines.first_record):
        yield number, line.removesuffix(b"\r")
