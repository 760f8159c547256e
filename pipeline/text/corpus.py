"""The files of one language, laid end to end: every unit of work is an interval of their bytes.

So the units follow from the sizes of the files alone, and small files are read together. What starts in an interval is read
by its unit: a line, a row of a Parquet file, or a whole compressed file, because that cannot be read from the middle. A large
compressed file is read by several of the units that it lies in: each unpacks all of it, and keeps every n-th shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from schemas.corpus.files import TextFile
from schemas.corpus.ranges import TextRange

# Shards of a unit, at most. A worker that changes its teacher loads it once for so many.
MOST_SHARDS = 64
# A small language has about so many units, so that several workers share it.
_FEWEST_UNITS = 64
# Units that unpack the same compressed file, at most; each of them has at least as many of its bytes as a unit has.
_MOST_READERS = 16


@dataclass(frozen=True)
class Piece:
    """What a unit reads of one file.

    Attributes:
      first: the number, among all records of the language, of its first one; 0 where records were not counted.
      reader, readers: of every `readers` shards of a compressed file, the unit keeps the one with the number `reader`.
    """

    part: TextRange
    first: int = 0
    reader: int = 0
    readers: int = 1


@dataclass(frozen=True)
class Corpus:
    """F files of one language.

    Attributes:
      unit_bytes: of each unit but the last.
      fingerprints: of the files' content.
      counts: of each file, the records of each of its ranges (`ranges`); None where they were not counted.
    """

    files: Sequence[TextFile]
    unit_bytes: int
    fingerprints: Sequence[str] = ()
    counts: Sequence[Sequence[int]] | None = None

    @classmethod
    def of(cls, files: Sequence[TextFile], shard_bytes: int) -> "Corpus":
        """The corpus of these files, in this order."""
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
        """The records of all files, where they were counted."""
        return None if self.counts is None else sum(map(sum, self.counts))

    @cached_property
    def working_units(self) -> np.ndarray:
        """int64, ascending: the units that read anything. In a large compressed file only the first few do."""
        works = np.zeros(self.units, bool)
        for file, start in zip(self.files, self._edges[:-1].tolist(), strict=True):
            if file.size:
                first, last = start // self.unit_bytes, (start + file.size - 1) // self.unit_bytes
                works[first : first + self._readers(file) if file.codec else last + 1] = True
        return np.flatnonzero(works)

    def _readers(self, file: TextFile) -> int:
        """How many units read a compressed file. Most are smaller than a unit, and read by the one in which they start."""
        return max(1, min(file.size // self.unit_bytes, _MOST_READERS))

    def ranges(self, index: int) -> list[TextRange]:
        """A file's ranges: one for each unit that it lies in, but all of a compressed file."""
        file = self.files[index]
        if file.codec or not file.size:
            return [TextRange.whole(file)]
        start = int(self._edges[index])
        borders = range(start - start % self.unit_bytes + self.unit_bytes, start + file.size, self.unit_bytes)
        edges = [0, *(border - start for border in borders), file.size]
        return [TextRange(file, first, last) for first, last in pairwise(edges)]

    @cached_property
    def _firsts(self) -> list[np.ndarray] | None:
        """Of each file, the numbers of the first records of its ranges."""
        if self.counts is None:
            return None
        before = np.cumsum([0, *map(sum, self.counts)])
        return [first + np.cumsum([0, *counts[:-1]]) for first, counts in zip(before[:-1], self.counts, strict=True)]

    def pieces(self, unit: int) -> list[Piece]:
        """What a unit reads, in order."""
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
        """The ranges whose bytes, of all files laid end to end, are in [low, high).

        Compressed and Parquet files are whole, and only in the interval in which they start.
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
        """The same with units that are `count` times as large."""
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
        """The number of the first record of a range of a file."""
        return int(self._firsts[index][number]) if self._firsts else 0

    def _files_in(self, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """The files with bytes in [low, high) of all bytes: their index, and which of their bytes these are."""
        first = int(np.searchsorted(self._edges, low, "right")) - 1
        for index in range(first, len(self.files)):
            start, size = int(self._edges[index]), self.files[index].size
            if start >= high:
                break
            if size:
                yield index, max(0, low - start), min(size, high - start)

    def surveyed(self, fingerprints: Sequence[str], counts: Sequence[Sequence[int]] | None) -> "Corpus":
        """The same with what was learnt of its files."""
        return replace(self, fingerprints=fingerprints, counts=counts)
