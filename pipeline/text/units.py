"""Units of work: which ones exist, what each of them reads, and how its text is cut into shards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import NamedTuple

import numpy as np

from pipeline.config import PipelineConfig
from pipeline.shard.shard import Shard
from pipeline.shard.shares import ShareInterval, divide
from pipeline.text.corpus import Corpus, Piece
from schemas.corpus.ranges import Record
from schemas.corpus.records import are_taken, read_records

UNITS_FOLDER, FAILED_FOLDER = "_units", "_failed"
# If the text is sampled sparsely, units become larger, but a language still has about this many.
_FEWEST_UNITS = 16
_RECORDS = 1024
# Limit of records in a shard, however short they are.
_MOST_RECORDS = 2**17


class Unit(NamedTuple):
    """A unit of work: number `number` of a language for a teacher."""

    language: str
    teacher: str
    number: int

    @property
    def path(self) -> str:
        """The file that lists its shards once all are written, relative to the output folder."""
        return f"{UNITS_FOLDER}/{self.language}/{self.teacher}/{self.number:06d}.arrow"

    @property
    def failed_path(self) -> str:
        """The file that lists its failed shards, relative to the output folder."""
        return f"{FAILED_FOLDER}/{self.language}/{self.teacher}/{self.number:06d}.json"

    @property
    def kept_path(self) -> str:
        """The file beside `failed_path` that lists the written shards, relative to the output folder."""
        return self.failed_path.removesuffix(".json") + ".arrow"


@dataclass(frozen=True)
class TeacherText:
    """The text that one teacher reads in one language.

    Attributes:
      corpus: the language's files, with units of the right size.
      max_records: the number of records to use, evenly spread over all records; None for all.
      share: the teacher's share of these; None for all.
    """

    language: str
    teacher: str
    corpus: Corpus
    max_records: int | None
    share: ShareInterval | None
    config: PipelineConfig

    @classmethod
    def of(cls, language: str, teacher: str, corpus: Corpus, config: PipelineConfig) -> "TeacherText":
        """Applies the configuration to a corpus, whose records must be counted if `max_records` is given."""
        share = divide_language(config, language).get(teacher)
        max_records, kept = config.text[language].max_records, share.size if share else 1.0
        if max_records is not None and corpus.records:
            max_records = min(max_records, corpus.records)
            kept *= max_records / corpus.records
        most = max(1, corpus.units // _FEWEST_UNITS)
        count = max(1, int(min(most, 1 / kept))) if kept else most
        return cls(language, teacher, corpus.joined(count) if count > 1 else corpus, max_records, share, config)

    @property
    def units(self) -> list[Unit]:
        """All units, in order."""
        return [Unit(self.language, self.teacher, number) for number in self.corpus.working_units.tolist()]

    def shards(self, unit: int) -> Iterator[Shard]:
        """Yields the shards of a unit, about `shard_bytes` of text each, with one in memory at a time.

        Raises UserError like `read_records`, after it has yielded the shards before the error.
        """
        parts = _parts(((piece, self._taken(piece)) for piece in self.corpus.pieces(unit)), self.config.shard_bytes)
        units = self.corpus.working_units
        # All of a unit's audited rows are in its first shard.
        audit_rows = _part(self.config.audit_rows, int(np.searchsorted(units, unit)), len(units))
        for number, records in enumerate(parts):
            yield Shard(self.language, self.teacher, unit, number, records, 0 if number else audit_rows)
            # Frees the records before the next ones are read.
            del records

    def _taken(self, piece: Piece) -> Iterator[Record]:
        """Yields the records of a piece, without those that `max_records` leaves out or another teacher reads."""
        records = read_records(piece.part, self.config.max_record_bytes)
        number = piece.first
        while batch := list(islice(records, _RECORDS)):
            yield from self._choose(batch, number, piece.part.file.source)
            number += len(batch)

    def _choose(self, records: list[Record], first: int, source: str) -> Iterable[Record]:
        total = self.corpus.records
        if self.max_records is None and not self.share:
            return records
        chosen_R = np.ones(len(records), bool)
        if self.max_records is not None and total:
            chosen_R &= are_taken(first, len(records), self.max_records, total)
        if self.share:
            numbers_R = np.fromiter((record.number for record in records), np.int64, len(records))
            chosen_R &= self.share.takes(self.language, source, numbers_R)
        return [records[index] for index in np.flatnonzero(chosen_R).tolist()]


def divide_language(config: PipelineConfig, language: str) -> dict[str, ShareInterval]:
    """Returns the share of each teacher if several teachers divide a language, else an empty dict."""
    shares = config.shares(language)
    return divide(shares, config.seed) if shares else {}


def _parts(pieces: Iterable[tuple[Piece, Iterator[Record]]], shard_bytes: int) -> Iterator[list[Record]]:
    """Cuts a unit's records into shards. A file that several units unpack is cut alone, so all of them cut it alike."""
    for is_shared, group in groupby(pieces, key=lambda pair: pair[0].readers > 1):
        if not is_shared:
            yield from _cut(chain.from_iterable(records for _, records in group), shard_bytes)
            continue
        for piece, records in group:
            for number, part in enumerate(_cut(records, shard_bytes)):
                if number % piece.readers == piece.reader:
                    yield part


def _cut(records: Iterable[Record], shard_bytes: int) -> Iterator[list[Record]]:
    """Yields lists of consecutive records. Each but the last has at least `shard_bytes` of text or `_MOST_RECORDS`."""
    part: list[Record] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.text.encode()) + 1
        if size >= shard_bytes or len(part) == _MOST_RECORDS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _part(total: int, index: int, count: int) -> int:
    """Returns the size of part `index` when `total` is split evenly into `count` parts."""
    return total * (index + 1) // count - total * index // count
