"""Finishing a run: the manifest, from what the shards' files say of themselves."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq

from pipeline.config import PipelineConfig
from pipeline.provenance import Run
from pipeline.shards import Receipt, Shard, read_receipt
from schemas import SCHEMA_VERSION
from schemas.errors import UserError
from schemas.manifest import FileRecord, LanguageRecord, Manifest, Masking, read_footer
from schemas.storage import join, list_files


def collect_manifest(config: PipelineConfig, run: Run, shards: list[Shard]) -> Manifest:
    """Builds the manifest from the footers of all shards' files.

    Raises:
      UserError: a file that is missing, truncated or of another run.
    """
    present = list_files(config.output)

    def read(shard: Shard) -> tuple[pq.FileMetaData, Receipt]:
        url = join(config.output, shard.path)
        if shard.path not in present:
            raise UserError(f"{url}: was not written; rerun the same command to write what is missing")
        metadata = read_footer(url)
        receipt = read_receipt(metadata)
        if receipt.run != run.fingerprint:
            raise UserError(
                f"{url}: written by run {receipt.run[:12]}, not by this run, {run.fingerprint[:12]}; "
                "remove it and rerun"
            )
        return metadata, receipt

    with ThreadPoolExecutor() as pool:
        footers = list(pool.map(read, shards))
    files = [
        FileRecord(
            path=shard.path,
            language=shard.language,
            teacher=shard.teacher,
            rows=receipt.rows,
            row_groups=[metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)],
            tokens=receipt.tokens,
            masked_positions=receipt.masked_positions,
        )
        for shard, (metadata, receipt) in zip(shards, footers, strict=True)
    ]
    groups: dict[tuple[str, str], list[Receipt]] = {}
    for shard, (_, receipt) in zip(shards, footers, strict=True):
        groups.setdefault((shard.language, shard.teacher), []).append(receipt)
    masking = config.masking
    return Manifest(
        schema_version=SCHEMA_VERSION,
        top_k=config.top_k,
        seed=config.seed,
        max_length=config.max_length,
        # Rounded, since 1 - 0.8 - 0.1 is not 0.1 in binary.
        masking=Masking(**masking.model_dump(), keep=round(1 - masking.mask - masking.random, 12)),
        identity=config.identity,
        teachers=run.teachers,
        vocabulary=run.vocabulary,
        languages=[_language_record(*key, receipts) for key, receipts in groups.items()],
        files=files,
    )


def _language_record(language: str, teacher: str, receipts: list[Receipt]) -> LanguageRecord:
    reasons = sorted({reason for receipt in receipts for reason in receipt.rejected})
    return LanguageRecord(
        language=language,
        teacher=teacher,
        records=sum(receipt.records for receipt in receipts),
        used=sum(receipt.used for receipt in receipts),
        rejected={reason: sum(receipt.rejected.get(reason, 0) for receipt in receipts) for reason in reasons},
        rows=sum(receipt.rows for receipt in receipts),
    )
