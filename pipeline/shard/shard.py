"""A shard, which is predicted and written at a time: some records of a language, one teacher, one Parquet file."""

from dataclasses import dataclass

from schemas.corpus.ranges import Record

REJECTS_FOLDER = "_rejects"


@dataclass(frozen=True)
class Shard:
    """Shard `number` of a unit of work.

    Attributes:
      records: its text.
      audit_rows: how many of its rows are audited.
    """

    language: str
    teacher: str
    unit: int
    number: int
    records: list[Record]
    audit_rows: int = 0

    @property
    def path(self) -> str:
        """Its Parquet file, relative to the output folder."""
        return f"{self.language}/{self.teacher}/{self._name}.parquet"

    @property
    def rejects_path(self) -> str:
        """Its rejected records (JSON lines), relative to the output folder."""
        return f"{REJECTS_FOLDER}/{self.language}/{self.teacher}/{self._name}.jsonl"

    @property
    def _name(self) -> str:
        return f"{self.unit:06d}{self.number:06d}"
