"""The files of one language, concatenated: every unit of work is an interval of their bytes.

So the units depend only on the sizes of the files, and small files are read together. A unit reads what starts in its
interval: lines, rows of a Parquet file, or whole compressed files, which cannot be read from the middle. Several of the
units that overlap a large compressed file read it: each unpacks all of it and keeps every n-th shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from schemas.corpus.files import TextFile
from schemas.corpus.ranges import TextRange

# Limit of a unit, in shards of plain text; compressed text makes several times as many. A worker that switches teachers
# loads the new one once for all of them.
MOST_SHARDS = 64
# A small language has about this many units, so that several workers can share it.
_FEWEST_UNITS = 64
# Limit of units that unpack the same compressed file. Each of them has at least a unit's worth of the file's bytes.
_MOST_READERS = 16


@dataclass(frozen=True)
class Piece:
    """The part of a file that a unit reads.

    Attributes:
      first: the index of its first record among all records of the language; 0 if records were not counted.
      reader, readers: of every `readers` shards of a compressed file, the unit keeps the one with index `reader`.
    """

    part: TextRange
    first: int = 0
    reader: int = 0
    readers: int = 1


@dataclass(frozen=True)
class Corpus:
    """F files of one language.

    Attributes:
      unit_bytes: the size of each unit but the last.
      fingerprints: the fingerprint of each file's content.
      counts: for each file, the number of records in each of its ranges (`ranges`); None if they were not counted.
    """

    files: Sequence[TextFile]
    unit_bytes: int
    fingerprints: Sequence[str] = ()
    counts: Sequence[Sequence[int]] | None = None

    @classmethod
    def of(cls, files: Sequence[TextFile], shard_bytes: int) -> "Corpus":
        """Makes the corpus of these files, in this order."""
        shards = -(-sum(file.size for file in files) // shard_bytes)
        return cls(files, shard_bytes * min(MOST_SHARDS, max(1, -(-shards // _FEWEST_UNITS))))

    @cached_property
    def _edges(self) -> np.ndarray:
        """int64 [F + 1]: where each file starts, and where the last one ends."""
        return np.cumsum([0, *(file.size for file in self.files)])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return int(self._edges[-1])

    @property
    def units(self) -> int:
        """How many units there are."""
        return -(-self.size // self.unit_bytes)

    @cached_property
    def records(self) -> int | None:
        """The number of records in all files; None if they were not counted."""
        return None if self.counts is None else sum(map(sum, self.counts))

    @cached_property
    def working_units(self) -> np.ndarray:
        """int64, ascending: the units that read anything. In a large compressed file, only the first few do."""
        works = np.zeros(self.units, bool)
        for file, start in zip(self.files, self._edges[:-1].tolist(), strict=True):
            if file.size:
                first, last = start // self.unit_bytes, (start + file.size - 1) // self.unit_bytes
                works[first : first + self._readers(file) if file.codec else last + 1] = True
        return np.flatnonzero(works)

    def _readers(self, file: TextFile) -> int:
        """Returns how many units read a compressed file. Most files are small, and read by the unit they start in."""
        return max(1, min(file.size // self.unit_bytes, _MOST_READERS))

    def ranges(self, index: int) -> list[TextRange]:
        """Returns a file's ranges: one for each unit that it overlaps, but a single one for a compressed file."""
        file = self.files[index]
        if file.codec or not file.size:
            return [TextRange.whole(file)]
        start = int(self._edges[index])
        borders = range(start - start % self.unit_bytes + self.unit_bytes, start + file.size, self.unit_bytes)
        edges = [0, *(border - start for border in borders), file.size]
        return [TextRange(file, first, last) for first, last in pairwise(edges)]

    @cached_property
    def _firsts(self) -> list[np.ndarray] | None:
        """For each file, the indices of the first records of its ranges."""
        if self.counts is None:
            return None
        before = np.cumsum([0, *map(sum, self.counts)])
        return [first + np.cumsum([0, *counts[:-1]]) for first, counts in zip(before[:-1], self.counts, strict=True)]

    def pieces(self, unit: int) -> list[Piece]:
        """Returns what a unit reads, in order."""
        pieces = []
        for index, low, high in self._files_in(unit * self.unit_bytes, (unit + 1) * self.unit_bytes):
            file, start = self.files[index], int(self._edges[index])
            number = unit - start // self.unit_bytes
            if file.codec:
                if number < self._readers(file):
                    first = self._first(index, 0)
                    pieces.append(Piece(TextRange.whole(file), first, number, self._readers(file)))
            else:
                pieces.append(Piece(TextRange(file, low, high), self._first(index, number)))
        return pieces

    def interval(self, low: int, high: int) -> list[TextRange]:
        """Returns the ranges whose bytes are in [low, high) of the concatenated files.

        Compressed and Parquet files are included whole, and only in the interval in which they start.
        """
        ranges = []
        for index, first, last in self._files_in(low, high):
            file = self.files[index]
            if not (file.codec or file.is_parquet):
                ranges.append(TextRange(file, first, last))
            elif not first:
                ranges.append(TextRange.whole(file))
        return ranges

    def joined(self, count: int) -> "Corpus":
        """Returns the same corpus with units that are `count` times as large."""
        joined = replace(self, unit_bytes=self.unit_bytes * count)
        if self.counts is None:
            return joined
        counts = []
        for file, start, of_file in zip(self.files, self._edges[:-1].tolist(), self.counts, strict=True):
            units = start // self.unit_bytes + np.arange(len(of_file))
            of_unit = np.bincount(units // count - start // joined.unit_bytes, of_file) if file.size else of_file
            counts.append([int(records) for records in of_unit])
        return replace(joined, counts=counts)

    def _first(self, index: int, number: int) -> int:
        """Returns the index of the first record of a range of a file; 0 if records were not counted."""
        return int(self._firsts[index][number]) if self._firsts else 0

    def _files_in(self, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """Yields each file with bytes in [low, high) of all bytes: its index, and the interval of its own bytes."""
        first = int(np.searchsorted(self._edges, low, "right")) - 1
        for index in range(first, len(self.files)):
            start, size = int(self._edges[index]), self.files[index].size
            if start >= high:
                break
            if size:
                yield index, max(0, low - start), min(size, high - start)

    def surveyed(self, fingerprints: Sequence[str], counts: Sequence[Sequence[int]] | None) -> "Corpus":
        """Returns the same corpus with the survey of its files."""
        return replace(self, fingerprints=fingerprints, counts=counts)
