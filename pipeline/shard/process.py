"""What happens inside a shard: read, tokenize, mask, predict, remap, write.

It depends on the shard and the settings alone. So memory is bounded by `shard_bytes` on
every runner, a shard gives the same rows wherever and however often it runs, and a rerun
skips those already written.
"""

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from pipeline.config import PipelineConfig
from pipeline.shard.audit import audit
from pipeline.shard.masking import Masked, example_key, mask_tokens, uniform
from pipeline.shard.parquet import AuditSums, Receipt, encode_rows
from pipeline.shard.sequences import Sequences, make_sequences
from pipeline.shard.shard import Shard
from pipeline.teachers.loading import Teacher
from pipeline.teachers.predictor import NotFinite, Predictions
from schemas.errors import UserError
from schemas.ragged import list_array
from schemas.rows import ROW_SCHEMA
from schemas.storage import join, write_bytes

# The counter that chooses rows to audit; masking's own are far above it.
_AUDIT = np.uint64(2**31)


Progress = Callable[[int, int, int], None]


def process_shard(
    shard: Shard,
    config: PipelineConfig,
    run: str,
    teacher: Teacher,
    progress: Progress = lambda done, tokens, rows: None,
) -> Receipt:
    """Reads a shard's text and commits its rejects and then its Parquet file.

    Args:
      run: fingerprint of everything that decides the rows; kept in the footer.
      progress: called while predicting with (tokens done, tokens in all, rows in all).

    Raises:
      UserError: as in `read_records`, or the teacher gave a NaN or infinity (names the example).
    """
    records, texts, rejects = [], [], []
    for record in shard.read():
        if record.fault:
            rejects.append((record.number, record.fault))
        else:
            records.append(record.number)
            texts.append(record.text)
    sequences, unusable = make_sequences(records, texts, teacher.tokenizer, config)
    rejects = sorted(rejects + unusable)
    used = len(records) - len(unusable)
    del texts

    table = make_rows(shard, sequences, config, teacher, progress)
    reasons = [reason for _, reason in rejects]
    receipt = Receipt(
        records=used + len(rejects),
        used=used,
        rejected={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        rows=len(table),
        tokens=len(table["input_ids"].combine_chunks().values),
        masked_positions=len(table["labels"].combine_chunks().values),
        dtype=str(teacher.predictor.dtype).removeprefix("torch.") if teacher.predictor else "",
        audit=_audit(shard, table, config, teacher),
    )
    if rejects:
        lines = [
            json.dumps({"source": shard.part.file.source, "record": record, "reason": reason}) + "\n"
            for record, reason in rejects
        ]
        write_bytes(join(config.output, shard.rejects_path), "".join(lines).encode())
    content = encode_rows(
        table, config.top_k, teacher.vocabulary_sha256, run, receipt.model_dump_json(), config.row_group_rows
    )
    write_bytes(join(config.output, shard.path), content)
    return receipt


def make_rows(
    shard: Shard,
    sequences: Sequences,
    config: PipelineConfig,
    teacher: Teacher,
    progress: Progress = lambda done, tokens, rows: None,
) -> pa.Table:
    """The rows (`schemas.rows`) of a shard's sequences: all in order, then again for each further copy.

    So that two copies of one sequence are never neighbours in training. Arguments and
    errors are `process_shard`'s.
    """
    copies = config.masking.copies
    tokenizer, to_merged = teacher.tokenizer, teacher.to_merged
    lengths = np.tile(sequences.lengths, copies)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    example_ids = [
        f"{shard.language}:{shard.teacher}:{shard.part.file.source}:{record}:{number}:{copy}"
        for copy in range(copies)
        for record, number in zip(sequences.records.tolist(), sequences.numbers.tolist(), strict=True)
    ]
    masked = mask_tokens(
        np.tile(sequences.token_ids, copies),
        lengths,
        _keys(config, example_ids),
        tokenizer.special_ids,
        tokenizer.ordinary_ids,
        tokenizer.roles["mask"],
        config.masking,
        None if sequences.words is None else np.tile(sequences.words, copies),
    )
    predictions = _predict(masked, lengths, example_ids, config, teacher, progress)
    ends = np.searchsorted(masked.targets, offsets)
    kept = ends if teacher.predictor else np.zeros_like(ends)
    columns = {
        "example_id": pa.array(example_ids, pa.string()),
        "language": pa.array([shard.language] * len(example_ids), pa.string()),
        "teacher": pa.array([shard.teacher] * len(example_ids), pa.string()),
        "input_ids": list_array(to_merged[masked.input_ids], offsets),
        "masked_positions": list_array(
            (masked.targets - np.repeat(offsets[:-1], np.diff(ends))).astype(np.int32), ends
        ),
        "labels": list_array(to_merged[masked.labels], ends),
        "label_logprobs": list_array(predictions.label_logprobs, kept),
        "topk_ids": list_array(to_merged[predictions.topk_ids.ravel()], kept * config.top_k),
        "topk_logprobs": list_array(predictions.topk_logprobs.ravel(), kept * config.top_k),
    }
    return pa.table(columns, schema=ROW_SCHEMA)


def _predict(
    masked: Masked,
    lengths: np.ndarray,
    example_ids: list[str],
    config: PipelineConfig,
    teacher: Teacher,
    progress: Progress,
) -> Predictions:
    if not teacher.predictor:
        return Predictions(np.empty(0, np.float32), np.empty((0, 0), np.int32), np.empty((0, 0), np.float16))
    done = 0

    def count(tokens: int) -> None:
        nonlocal done
        done += tokens
        progress(done, len(masked.input_ids), len(lengths))

    try:
        return teacher.predictor.predict(
            masked.input_ids, lengths, masked.targets, masked.labels, config.batch_tokens, count
        )
    except NotFinite as error:
        row = int(np.searchsorted(np.cumsum(lengths), masked.targets[error.target], side="right"))
        raise UserError(
            f"teacher {teacher.tokenizer.name!r} gave a NaN or infinite log-probability in example "
            f"{example_ids[row]!r}; try `dtype: float32` for it, or leave that text out"
        ) from None


def _audit(shard: Shard, table: pa.Table, config: PipelineConfig, teacher: Teacher) -> AuditSums:
    """Audits the rows whose numbers, drawn from the seed and their ids, are the smallest."""
    if not (teacher.predictor and shard.audit_rows and len(table)):
        return AuditSums()
    keys = _keys(config, table["example_id"].to_pylist())
    chosen = np.argsort(uniform(keys, np.full(len(keys), _AUDIT)), kind="stable")[: shard.audit_rows]
    return audit(table.take(np.sort(chosen)), teacher.to_own, teacher.predictor, config.top_k)


def _keys(config: PipelineConfig, example_ids: list[str]) -> np.ndarray:
    return np.array([example_key(config.seed, example_id) for example_id in example_ids], np.uint64)
