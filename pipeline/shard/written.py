"""Describes a written shard, and the table of a unit's written shards.

A unit's table is written after its shards, and shows that all of them exist. The manifest is made from the tables of
all units, so that nothing has to read every file.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from pipeline.shard.parquet import Receipt, read_receipt
from pipeline.shard.shard import Shard
from schemas.errors import UserError
from schemas.file_table import FILE_SCHEMA, FileRecord
from schemas.footers import Footer, read_footer
from schemas.rows import check_footer

# The columns of a unit's table; a receipt is JSON.
UNIT_SCHEMA = FILE_SCHEMA.append(pa.field("receipt", pa.string(), nullable=False))


@dataclass(frozen=True)
class Written:
    """A shard's file, and the receipt of what it holds."""

    file: FileRecord
    receipt: Receipt

    @classmethod
    def of(cls, shard: Shard, footer: Footer, receipt: Receipt) -> "Written":
        """Makes the record from the footer of the shard's file."""
        file = FileRecord(
            path=shard.path,
            language=shard.language,
            teacher=shard.teacher,
            rows=receipt.rows,
            row_groups=footer.row_groups,
            tokens=receipt.tokens,
            masked_positions=receipt.masked_positions,
            size=footer.size,
            footer_sha256=footer.sha256,
        )
        return cls(file, receipt)

    @classmethod
    def find(
        cls, shard: Shard, url: str, top_k: int, vocabulary_sha256: str, run_sha256: str, tail_samples: int
    ) -> "Written | None":
        """Returns the record of a file that already exists; None if there is no complete file of this run."""
        try:
            footer = read_footer(url)
            check_footer(url, footer.metadata.metadata, top_k, vocabulary_sha256, run_sha256, tail_samples=tail_samples)
            return cls.of(shard, footer, read_receipt(url, footer.metadata))
        except UserError:
            return None


def unit_table(written: Iterable[Written]) -> bytes:
    """Returns the table of a unit (`UNIT_SCHEMA`) as an Arrow stream."""
    rows = [one.file.model_dump() | {"receipt": one.receipt.model_dump_json()} for one in written]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, UNIT_SCHEMA) as stream:
        stream.write_table(pa.Table.from_pylist(rows, UNIT_SCHEMA))
    return sink.getvalue().to_pybytes()


def read_unit_table(content: bytes) -> pa.Table | None:
    """Reads the table of a unit; None if it is incomplete or has another schema."""
    try:
        table = pa.ipc.open_stream(content).read_all()
    except (OSError, pa.ArrowException):
        return None
    return table if table.schema.equals(UNIT_SCHEMA) else None
