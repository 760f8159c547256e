"""The unit of work: one range of text, one teacher, one Parquet file.

What crosses Beam's stages is a `Shard`, a small description. Everything that happens
inside one depends on the shard and the settings alone: read, tokenize, mask, predict,
remap, write. So memory is bounded by `shard_bytes` on every runner, a shard gives the
same rows wherever and however often it runs, and a rerun skips those already written.
"""

import io
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from pipeline.config import PipelineConfig
from pipeline.masking import example_key, mask_tokens
from pipeline.prediction import Predictions, Predictor
from pipeline.teacher_tokenizer import TeacherTokenizer
from pipeline.text import LineRange, read_lines
from schemas.rows import RECEIPT_KEY, ROW_SCHEMA, footer
from schemas.storage import join, write_bytes

REJECTS_FOLDER = "_rejects"
INVALID_UTF8, EMPTY, TOO_SHORT, NO_TARGET = "invalid UTF-8", "empty", "too short", "nothing to mask"
_TOKENIZE_LINES = 1024


@dataclass(frozen=True)
class Shard:
    """One unit of work. `index` counts the shards of one language and teacher."""

    language: str
    teacher: str
    index: int
    lines: LineRange

    @property
    def path(self) -> str:
        """Its Parquet file, relative to the output folder."""
        return f"{self.language}/{self.teacher}/{self.index:06d}.parquet"

    @property
    def rejects_path(self) -> str:
        """Its rejected lines (JSON lines), relative to the output folder."""
        return f"{REJECTS_FOLDER}/{self.language}/{self.teacher}/{self.index:06d}.jsonl"


class Receipt(BaseModel):
    """What became of a shard, kept in its Parquet footer so that a rerun can count it."""

    run: str
    records: int
    used: int
    rejected: dict[str, int]
    rows: int
    tokens: int
    masked_positions: int


@dataclass(frozen=True)
class Segments:
    """N unmasked sequences of one shard, T tokens in all, own ids.

    Attributes:
      token_ids: int32 [T], special tokens included, laid end to end.
      lengths: int64 [N].
      records, numbers: int64 [N], the line and the segment within it.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    records: np.ndarray
    numbers: np.ndarray


def process_shard(
    shard: Shard,
    config: PipelineConfig,
    run: str,
    tokenizer: TeacherTokenizer,
    predictor: Predictor | None,
    to_merged: np.ndarray,
    vocabulary_sha256: str,
) -> Receipt:
    """Reads a shard's text and commits its rejects and then its Parquet file.

    Args:
      run: fingerprint of everything that decides the rows; kept in the receipt.
      predictor: None for `top_k: 0`.
      to_merged: int32, own ids to merged ids.
    """
    records, texts, rejects = _decode(list(read_lines(shard.lines)))
    segments, unusable = _segment(records, texts, tokenizer, config)
    rejects = sorted(rejects + unusable)
    columns = _columns(shard, segments, config, tokenizer, predictor, to_merged)
    reasons = [reason for _, reason in rejects]
    receipt = Receipt(
        run=run,
        records=len(records) - len(unusable) + len(rejects),
        used=len(records) - len(unusable),
        rejected={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        rows=len(columns["example_id"]),
        tokens=len(columns["input_ids"].values),
        masked_positions=len(columns["labels"].values),
    )
    if rejects:
        lines = [
            json.dumps({"source": shard.lines.file.source, "record": record, "reason": reason}) + "\n"
            for record, reason in rejects
        ]
        write_bytes(join(config.output, shard.rejects_path), "".join(lines).encode())
    write_rows(
        join(config.output, shard.path),
        pa.table(columns, schema=ROW_SCHEMA),
        footer(config.top_k, vocabulary_sha256, receipt.model_dump_json()),
        config.row_group_rows,
    )
    return receipt


def write_rows(url: str, rows: pa.Table, metadata: dict[str, str], row_group_rows: int) -> None:
    """Commits one Parquet file of predictions (`schemas.rows`), atomically."""
    buffer = io.BytesIO()
    pq.write_table(
        rows.replace_schema_metadata(metadata),
        buffer,
        compression="zstd",
        row_group_size=row_group_rows,
        # Ids and log-probabilities hardly repeat: a dictionary would cost, not save.
        use_dictionary=["language", "teacher"],
    )
    write_bytes(url, buffer.getvalue())


def read_receipt(metadata: pq.FileMetaData) -> Receipt:
    """The receipt in the footer of a shard's Parquet file."""
    return Receipt.model_validate_json(metadata.metadata[RECEIPT_KEY.encode()])


def _decode(lines: list[tuple[int, bytes]]) -> tuple[list[int], list[str], list[tuple[int, str]]]:
    """Record numbers and texts of the readable lines, and (record, reason) of the others."""
    records, texts, rejects = [], [], []
    for record, line in lines:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            rejects.append((record, INVALID_UTF8))
            continue
        if text.isspace() or not text:
            rejects.append((record, EMPTY))
        else:
            records.append(record)
            texts.append(text)
    return records, texts, rejects


def _segment(
    records: list[int], texts: list[str], tokenizer: TeacherTokenizer, config: PipelineConfig
) -> tuple[Segments, list[tuple[int, str]]]:
    """Tokenizes, and cuts long records into the fewest segments, of equal length give or take one.

    Equal lengths, so that no record ends in a stub of a few tokens. Segments of special
    (say, unknown) tokens alone have nothing to mask and are left out. Returns the segments
    and the (record, reason) of records that gave none.
    """
    prefix, suffix = np.array(tokenizer.prefix, np.int32), np.array(tokenizer.suffix, np.int32)
    room = config.max_length - len(prefix) - len(suffix)
    pieces, lengths, owners, numbers, unusable = [], [], [], [], []
    for start in range(0, len(texts), _TOKENIZE_LINES):
        encodings = tokenizer.hf.backend_tokenizer.encode_batch(
            texts[start : start + _TOKENIZE_LINES], add_special_tokens=False
        )
        for record, encoding in zip(records[start : start + _TOKENIZE_LINES], encodings, strict=True):
            own = np.array(encoding.ids, np.int32)
            ordinary = ~np.isin(own, tokenizer.special_ids)
            if len(own) < config.min_length or not ordinary.any():
                unusable.append((record, TOO_SHORT if len(own) < config.min_length else NO_TARGET))
                continue
            count = -(-len(own) // room)
            for number, (part, targets) in enumerate(
                zip(np.array_split(own, count), np.array_split(ordinary, count), strict=True)
            ):
                if targets.any():
                    pieces += (prefix, part, suffix)
                    lengths.append(len(prefix) + len(part) + len(suffix))
                    owners.append(record)
                    numbers.append(number)
    token_ids = np.concatenate(pieces) if pieces else np.empty(0, np.int32)
    return Segments(token_ids, *(np.array(x, np.int64) for x in (lengths, owners, numbers))), unusable


def _columns(
    shard: Shard,
    segments: Segments,
    config: PipelineConfig,
    tokenizer: TeacherTokenizer,
    predictor: Predictor | None,
    to_merged: np.ndarray,
) -> dict[str, pa.Array]:
    """The shard's columns (`schemas.rows`): all segments in order, then again for each further copy.

    So that two copies of one sequence are never neighbours in training.
    """
    copies = config.masking.copies
    lengths = np.tile(segments.lengths, copies)
    starts = np.tile(np.cumsum(segments.lengths) - segments.lengths, copies)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    example_ids = [
        f"{shard.language}:{shard.teacher}:{shard.lines.file.source}:{record}:{number}:{copy}"
        for copy in range(copies)
        for record, number in zip(segments.records.tolist(), segments.numbers.tolist(), strict=True)
    ]
    keys = np.array([example_key(config.seed, example_id) for example_id in example_ids], np.uint64)
    masked = mask_tokens(
        segments.token_ids[flat],
        lengths,
        keys,
        tokenizer.special_ids,
        tokenizer.ordinary_ids,
        tokenizer.roles["mask"],
        config.masking,
    )
    if predictor:
        predictions = predictor.predict(masked.input_ids, lengths, masked.targets, masked.labels, config.batch_tokens)
    else:
        predictions = Predictions(np.empty(0, np.float32), np.empty((0, 0), np.int32), np.empty((0, 0), np.float16))

    ends = np.searchsorted(masked.targets, offsets)
    kept = ends if predictor else np.zeros_like(ends)
    return {
        "example_id": pa.array(example_ids, pa.string()),
        "language": pa.array([shard.language] * len(example_ids), pa.string()),
        "teacher": pa.array([shard.teacher] * len(example_ids), pa.string()),
        "input_ids": _lists(offsets, to_merged[masked.input_ids]),
        "masked_positions": _lists(ends, (masked.targets - np.repeat(offsets[:-1], np.diff(ends))).astype(np.int32)),
        "labels": _lists(ends, to_merged[masked.labels]),
        "label_logprobs": _lists(kept, predictions.label_logprobs),
        "topk_ids": _lists(kept * config.top_k, to_merged[predictions.topk_ids.ravel()]),
        "topk_logprobs": _lists(kept * config.top_k, predictions.topk_logprobs.ravel()),
    }


def _lists(offsets: np.ndarray, values: np.ndarray) -> pa.ListArray:
    """A list column from flat values and N+1 offsets, without touching rows."""
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
