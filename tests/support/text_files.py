"""Finds, cuts and reads text files as the pipeline does."""

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
    """Finds one file."""
    (file,) = find_files("en", [str(path)], field)
    return file


def cut(file: TextFile, size: int) -> list[TextRange]:
    """Cuts a file into ranges of `size` bytes; a compressed one stays whole."""
    edges = [0, file.size] if file.codec else [*range(0, file.size, size), file.size]
    return [TextRange(file, start, end) for start, end in pairwise(edges)]


def records(path: Path, size: int, field: str = "text", **limits) -> list[Record]:
    """Returns the records of a file, read in ranges of `size` bytes."""
    return [record for part in cut(text_file(path, field), size) for record in read_records(part, **limits)]


def corpus_of(path: Path, shard_bytes: int) -> Corpus:
    """Returns the corpus of a file or a folder."""
    return Corpus.of(find_files("en", [str(path)]), shard_bytes)


def line_places(content: bytes) -> dict[int, int]:
    """Returns the number of each line, by the byte where it starts."""
    starts = accumulate((len(line) for line in content.splitlines(keepends=True)), initial=0)
    return {start: number for number, start in enumerate(starts)}
