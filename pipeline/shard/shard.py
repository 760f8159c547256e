"""The unit of work: one range of text, one teacher, one Parquet file.

A `Shard` is a small description, which Beam passes between its stages. `pipeline.shard.process` says
what happens inside one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.shard.shares import ShareInterval
from schemas.corpus.records import Decompressor, Record, TextRange, read_records

REJECTS_FOLDER = "_rejects"


@dataclass(frozen=True)
class Shard:
    """One unit of work.

    Attributes:
      index: counts the shards of one language and teacher.
      first: the number of its first record among all records of the language.
      max_records, total: `max_records` of the language's `total` records are read, evenly spread.
      audit_rows: how many of its rows are audited.
      max_record_bytes: longer records are rejected.
      share: which of these records it reads; None for all.
    """

    language: str
    teacher: str
    index: int
    part: TextRange
    first: int
    max_records: int
    total: int
    audit_rows: int
    max_record_bytes: int
    share: ShareInterval | None = None

    @property
    def path(self) -> str:
        """Its Parquet file, relative to the output folder."""
        return f"{self.language}/{self.teacher}/{self.index:06d}.parquet"

    @property
    def rejects_path(self) -> str:
        """Its rejected lines (JSON lines), relative to the output folder."""
        return f"{REJECTS_FOLDER}/{self.language}/{self.teacher}/{self.index:06d}.jsonl"

    def read(self, decompressor: Decompressor | None = None) -> Iterator[Record]:
        """Its records, without those that `max_records` leaves out or another teacher reads.

        Argument and UserError as in `read_records`.
        """
        is_taken_R = self._is_taken()
        for record in read_records(self.part, self.max_record_bytes, decompressor):
            index = record.number - self.part.first_record
            number = self.first + index
            is_sampled = (number + 1) * self.max_records // self.total > number * self.max_records // self.total
            # A file that grew has more records than were planned, which `read_records` refuses at its end.
            if is_sampled and index < len(is_taken_R) and is_taken_R[index]:
                yield record

    def _is_taken(self) -> np.ndarray:
        """bool [R]: whether each of the range's records is in the share."""
        if not self.share:
            return np.ones(self.part.records, bool)
        records_R = self.part.first_record + np.arange(self.part.records)
        return self.share.takes(self.language, self.part.file.source, records_R)
