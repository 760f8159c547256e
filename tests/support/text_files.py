"""Text files as the pipeline finds, cuts and reads them."""

import bz2
import gzip
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import pyarrow as pa

from pipeline.text.corpus import Corpus
from schemas.corpus.files import TextFile, find_files
from schemas.corpus.ranges import Record, TextRange
from schemas.corpus.records import read_records

# Two members, as `cat a.gz b.gz` makes them: a reader must not stop after the first.
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": partial(pa.Codec("zstd").compress, asbytes=True)}


def text_file(path: Path, field: str = "text") -> TextFile:
    """One file, as it is found."""
    (file,) = find_files("en", [str(path)], field)
    return file


def cut(file: TextFile, size: int) -> list[TextRange]:
    """A file in ranges of `size` bytes; a compressed one as a whole."""
    edges = [0, file.size] if file.codec else [*range(0, file.size, size), file.size]
    return [TextRange(file, start, end) for start, end in pairwise(edges)]


def records(path: Path, size: int, field: str = "text", **limits) -> list[Record]:
    """The records of a file that is read in ranges of `size` bytes."""
    return [record for part in cut(text_file(path, field), size) for record in read_records(part, **limits)]


def corpus_of(path: Path, shard_bytes: int) -> Corpus:
    """The corpus of a file, or of a folder."""
    return Corpus.of(find_files("en", [str(path)]), shard_bytes)


def line_places(content: bytes) -> dict[int, int]:
    """The number of each line, by the byte where it starts."""
    starts = accumulate((len(line) for line in content.splitlines(keepends=True)), initial=0)
    return {start: number for number, start in enumerate(starts)}
