"""Finishing a run: the manifest, made from the footers of the shards' files."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.config import PipelineConfig
from pipeline.job.fingerprint import RunSpec
from pipeline.shard.parquet import Receipt, read_receipt
from pipeline.shard.shard import Shard
from schemas import SCHEMA_VERSION
from schemas.errors import UserError
from schemas.file_table import FileRecord, FileTable
from schemas.footers import read_footer
from schemas.manifest import AuditRecord, LanguageRecord, Manifest, Masking
from schemas.rows import check_footer
from schemas.secrets import without_secrets
from schemas.storage import join, list_files


def collect_manifest(config: PipelineConfig, run: RunSpec, shards: list[Shard]) -> Manifest:
    """Builds the manifest from the footers of all shards' files.

    Raises:
      UserError: a file that is missing, truncated or of another run, or too many
        records of a language were rejected.
    """
    present = list_files(config.output)

    def read(shard: Shard) -> tuple[FileRecord, Receipt]:
        url = join(config.output, shard.path)
        if shard.path not in present:
            raise UserError(f"{url}: was not written; rerun the same command to write what is missing")
        footer = read_footer(url)
        check_footer(
            url,
            footer.metadata.metadata,
            config.top_k,
            run.vocabulary.sha256,
            run.sha256,
            tail_samples=config.tail_samples,
        )
        receipt = read_receipt(url, footer.metadata)
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
        return file, receipt

    with ThreadPoolExecutor() as pool:
        files, receipts = zip(*pool.map(read, shards), strict=True)
    groups: dict[tuple[str, str], list[Receipt]] = {}
    for file, receipt in zip(files, receipts, strict=True):
        groups.setdefault((file.language, file.teacher), []).append(receipt)
    languages = [_language_record(*key, group, config.tail_samples > 0) for key, group in groups.items()]
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
        # Rounded, because 1 - 0.8 - 0.1 is not 0.1 in binary.
        masking=Masking(
            **masking.model_dump(), keep_prob=round(1 - masking.mask_replace_prob - masking.random_replace_prob, 12)
        ),
        packing=config.packing,
        token_identity=config.token_identity,
        teachers=run.teachers,
        hub_models=_hub_models(config),
        vocabulary=run.vocabulary,
        languages=languages,
        files=FileTable.of(files),
    )


def _hub_models(config: PipelineConfig) -> list[str]:
    """The teachers' models that transformers, which was to load them, looked for on the hub."""
    models = dict.fromkeys(part.model for teacher in config.teachers.values() for part in teacher.parts)
    return [without_secrets(model) for model in models if not Path(model).is_dir()]


def _language_record(language: str, teacher: str, receipts: list[Receipt], sampled: bool) -> LanguageRecord:
    reasons = sorted({reason for receipt in receipts for reason in receipt.rejected})
    return LanguageRecord(
        language=language,
        teacher=teacher,
        records=sum(receipt.records for receipt in receipts),
        used=sum(receipt.used for receipt in receipts),
        rejected={reason: sum(receipt.rejected.get(reason, 0) for receipt in receipts) for reason in reasons},
        rows=sum(receipt.rows for receipt in receipts),
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
            "then mend the text, or raise max_rejected and rerun: what is done is kept"
        )
