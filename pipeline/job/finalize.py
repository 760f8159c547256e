"""Finishes a run: makes the manifest from the tables of its units."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import PipelineConfig
from pipeline.job.fingerprint import RunSpec
from pipeline.shard.parquet import Receipt
from pipeline.shard.written import UNIT_SCHEMA, read_unit_table
from pipeline.text.units import UNITS_FOLDER, Unit
from schemas import SCHEMA_VERSION
from schemas.errors import UserError
from schemas.file_table import FILE_SCHEMA, FileTable
from schemas.manifest import AuditRecord, LanguageRecord, Manifest, Masking
from schemas.secrets import without_secrets
from schemas.storage import join, list_files, read_bytes, remove_file


@dataclass(frozen=True)
class Finished:
    """The tables of finished units, in the order of the units.

    Attributes:
      failed: the number of missing shards of each unit that is used without some of its shards.
    """

    tables: dict[Unit, pa.Table]
    failed: Mapping[Unit, int] = field(default_factory=dict)

    @cached_property
    def table(self) -> pa.Table:
        """All shards (`UNIT_SCHEMA`)."""
        return pa.concat_tables([UNIT_SCHEMA.empty_table(), *self.tables.values()]).combine_chunks()


def list_output(output: str) -> dict[str, int]:
    """Returns the size of each file below the output folder, by path, without unit tables written during the listing.

    While files are listed, other processes may write a unit's shards and then its table. A listing with only the table
    would look as if the shards were lost.
    """
    tables = list_files(join(output, UNITS_FOLDER))
    prefix = f"{UNITS_FOLDER}/"
    return {
        path: size
        for path, size in list_files(output).items()
        if not path.startswith(prefix) or path.removeprefix(prefix) in tables
    }


def read_finished(output: str, units: Iterable[Unit], present: dict[str, int]) -> Finished:
    """Reads the tables of the finished units: those whose files all exist with the sizes they were written with.

    Args:
      present: as returned by `list_output`.
    """

    def read(unit: Unit) -> tuple[Unit, pa.Table | None]:
        try:
            return unit, read_unit_table(read_bytes(join(output, unit.path)))
        except FileNotFoundError:
            return unit, None

    with ThreadPoolExecutor() as pool:
        tables = dict(pool.map(read, [unit for unit in units if unit.path in present]))
    return Finished({unit: table for unit, table in tables.items() if table is not None and is_there(table, present)})


def remove_unfinished(output: str, units: Iterable[Unit], finished: Finished, present: dict[str, int]) -> list[Unit]:
    """Returns the units still to do, after it removes their failure notes and the tables of those with lost files."""
    missing = [unit for unit in units if unit not in finished.tables]
    for unit in missing:
        for path in (unit.path, unit.failed_path, unit.kept_path):
            if path in present:
                remove_file(join(output, path))
    return missing


def is_there(table: pa.Table, present: dict[str, int]) -> bool:
    """Whether all shards of a table exist with the sizes they were written with."""
    sizes = [present.get(path) for path in table["path"].to_pylist()]
    return sizes == table["size"].to_pylist()


def make_manifest(config: PipelineConfig, run: RunSpec, finished: Finished) -> Manifest:
    """Makes the manifest of a run with no missing units.

    Raises UserError if too many records of a language were rejected.
    """
    table = finished.table
    languages = [
        record
        for name, teacher in config.teachers.items()
        for language in teacher.languages
        if (record := _language_record(language, name, finished, config.tail_samples > 0))
    ]
    for record in languages:
        _check_rejects(record, config)
    masking = config.masking
    return Manifest(
        schema_version=SCHEMA_VERSION,
        top_k=config.top_k,
        tail_samples=config.tail_samples,
        run_sha256=run.sha256,
        seed=config.seed,
        max_length=config.max_length,
        # Rounded because 1 - 0.8 - 0.1 is not 0.1 in binary.
        masking=Masking(
            **masking.model_dump(), keep_prob=round(1 - masking.mask_replace_prob - masking.random_replace_prob, 12)
        ),
        packing=config.packing,
        token_identity=config.token_identity,
        teachers=run.teachers,
        hub_models=_hub_models(config),
        vocabulary=run.vocabulary,
        languages=languages,
        files=FileTable(table.select(FILE_SCHEMA.names)),
    )


def _hub_models(config: PipelineConfig) -> list[str]:
    """Returns the teachers' models that are not local folders, so transformers looks for them on the hub."""
    models = dict.fromkeys(part.model for teacher in config.teachers.values() for part in teacher.parts)
    return [without_secrets(model) for model in models if not Path(model).is_dir()]


def _language_record(language: str, teacher: str, finished: Finished, sampled: bool) -> LanguageRecord:
    table = finished.table
    of_pair = pc.and_(pc.equal(table["language"], language), pc.equal(table["teacher"], teacher))
    receipts = [Receipt.model_validate_json(receipt) for receipt in table["receipt"].filter(of_pair).to_pylist()]
    reasons = sorted({reason for receipt in receipts for reason in receipt.rejected})
    return LanguageRecord(
        language=language,
        teacher=teacher,
        records=sum(receipt.records for receipt in receipts),
        used=sum(receipt.used for receipt in receipts),
        rejected={reason: sum(receipt.rejected.get(reason, 0) for receipt in receipts) for reason in reasons},
        rows=sum(receipt.rows for receipt in receipts),
        failed=sum(count for unit, count in finished.failed.items() if unit[:2] == (language, teacher)),
        dtypes=sorted({receipt.dtype for receipt in receipts if receipt.dtype}),
        audit=_audit_record(receipts, sampled),
    )


def _audit_record(receipts: list[Receipt], sampled: bool) -> AuditRecord | None:
    sums = [receipt.audit for receipt in receipts]
    positions = sum(audit.positions for audit in sums)
    if not positions:
        return None
    return AuditRecord(
        rows=sum(audit.rows for audit in sums),
        positions=positions,
        kl=sum(audit.kl for audit in sums) / positions,
        kl_top_k=sum(audit.kl_top_k for audit in sums) / positions,
        tail_mass=sum(audit.tail for audit in sums) / positions,
        accuracy=sum(audit.correct for audit in sums) / positions,
        sampled_error=sum(audit.sampled_error for audit in sums) / positions if sampled else None,
        sampled_bias=sum(audit.sampled_bias for audit in sums) / positions if sampled else None,
    )


def _check_rejects(record: LanguageRecord, config: PipelineConfig) -> None:
    rejected = sum(record.rejected.values())
    if rejected > config.max_rejected * record.records:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in record.rejected.items())
        raise UserError(
            f"text.{record.language}: {rejected:,} of {record.records:,} records were rejected ({reasons}), more than "
            f"max_rejected ({config.max_rejected}); look at {join(config.output, '_rejects', record.language)}, "
            "then correct the text, or raise max_rejected and run the command again: finished work is kept"
        )
