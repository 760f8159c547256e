"""Estimates what a run would take from a sample of each language's text: `--dry-run`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.shard.parquet import encode_rows
from pipeline.shard.process import ShardProcessor
from pipeline.shard.sequences import Sequences, make_sequences
from pipeline.shard.shard import Shard
from pipeline.teachers.loading import Teacher
from pipeline.teachers.tokenizer import TeacherTokenizer
from pipeline.text.sampling import sample_records
from pipeline.text.units import TeacherText
from schemas.errors import UserError
from schemas.tables import format_table

# Bytes of text to tokenize, and tokens to predict, for each language and teacher.
_SAMPLE_BYTES, _SAMPLE_TOKENS = 2**18, 2**12
# Fewer records than this say nothing about the share of rejected ones.
_SAMPLE_RECORDS = 200
_HEAD = ("language (teacher)", "records", "rejected", "rows", "masked", "bytes", "petaFLOPs", "hours")


@dataclass(frozen=True)
class Estimate:
    """Estimate for one language's text with one teacher.

    `flops` are the teacher's floating-point operations, `seconds` the time that they
    would take at the rate measured here, if it was measured.
    """

    language: str
    teacher: str
    records: int
    rejected: int
    rows: int
    masked_positions: int
    bytes: int
    flops: float
    seconds: float


def check_sample(text: TeacherText, tokenizer: TeacherTokenizer) -> None:
    """Before any teacher runs, raises UserError if more of a sample is rejected than `max_rejected` allows."""
    config = text.config
    sample = sample_records(text.corpus, _SAMPLE_BYTES, config.max_record_bytes)
    total, rejected = len(sample.records), len(make_sequences(sample.records, tokenizer, config).rejects)
    if total >= _SAMPLE_RECORDS and rejected > config.max_rejected * total:
        raise UserError(
            f"text.{text.language}: {rejected:,} of a sample of {total:,} records would be rejected, more than "
            f"max_rejected ({config.max_rejected}); correct the text, lower min_length, or raise max_rejected"
        )


def estimate(text: TeacherText, teacher: Teacher) -> Estimate:
    """Tokenizes a sample of the text that a teacher reads in a language, predicts a part of it, and scales both up.

    The scale is the ratio of records times, because the sample cuts long records, the ratio of their bytes.
    """
    config = text.config
    sample = sample_records(text.corpus, _SAMPLE_BYTES, config.max_record_bytes)
    _, sequences, rejects = make_sequences(sample.records, teacher.tokenizer, config)
    total = sample.total if text.max_records is None else min(text.max_records, sample.total)
    records = round(total * text.share.size) if text.share else total
    rejected = round(len(rejects) * records / max(1, len(sample.records)))
    scale = records / max(1, len(sample.records)) * sample.whole_bytes / max(1, sample.bytes)
    part = _subsample(sequences, _SAMPLE_TOKENS)
    if not len(part):
        return Estimate(text.language, text.teacher, records, rejected, 0, 0, 0, 0.0, 0.0)

    first = Shard(text.language, text.teacher, 0, 0, [])
    processor = ShardProcessor(config, teacher, run_sha256="")
    if teacher.predictor:  # The first batches are slow, so they are not timed.
        processor.make_rows(first, _subsample(part, 1))
    started = time.perf_counter()
    table = processor.make_rows(first, part)
    seconds = time.perf_counter() - started
    copies = config.masking.copies
    masked = len(table["labels"].combine_chunks().values)
    # For one copy, because the table holds all of them.
    tokens = part.tokens
    flops = teacher.predictor.flops(tokens.ids_T, tokens.lengths_N, masked // copies) if teacher.predictor else 0
    content = encode_rows(table, config.top_k, "", "", "{}", config.row_group_rows, tail_samples=config.tail_samples)
    grown = len(sequences.tokens.ids_T) / len(tokens.ids_T) * scale
    return Estimate(
        language=text.language,
        teacher=text.teacher,
        records=records,
        rejected=rejected,
        rows=round(len(sequences) * copies * scale),
        masked_positions=round(masked * grown),
        bytes=round(len(content) * grown),
        flops=flops * copies * grown,
        seconds=seconds * grown,
    )


def describe(estimates: Sequence[Estimate], teraflops: float | None) -> str:
    """Formats the estimates as a table; `teraflops` (teraFLOP/s of all workers together) replaces the measured rate."""
    hours = [(one.flops / (teraflops * 1e12) if teraflops else one.seconds) / 3600 for one in estimates]
    rows = [
        _cells(f"{one.language} ({one.teacher})", f"{one.rejected / max(1, one.records):.1%}", [one], hours_of_one)
        for one, hours_of_one in zip(estimates, hours, strict=True)
    ]
    rows.append(_cells("total", "", estimates, sum(hours)))
    lines = [format_table(_HEAD, rows)]
    flops, seconds = sum(one.flops for one in estimates), sum(one.seconds for one in estimates)
    if teraflops:
        lines.append(f"hours at the given {teraflops:g} teraFLOP/s")
    elif flops:
        lines.append(
            f"hours on this machine alone, at the measured {flops / seconds / 1e12:.3g} teraFLOP/s; "
            "for another rate, give --teraflops"
        )
    return "\n".join(lines)


def _cells(name: str, rejected: str, estimates: Sequence[Estimate], hours: float) -> list[str]:
    """Returns one line of the table: the sums of `estimates`."""
    return [
        name,
        f"{sum(one.records for one in estimates):,}",
        rejected,
        f"{sum(one.rows for one in estimates):,}",
        f"{sum(one.masked_positions for one in estimates):,}",
        _size(sum(one.bytes for one in estimates)),
        f"{sum(one.flops for one in estimates) / 1e15:,.3f}",
        f"{hours:,.2f}",
    ]


def _subsample(sequences: Sequences, tokens: int) -> Sequences:
    """Returns evenly spread sequences with about `tokens` tokens in all, and at least one sequence if there is any."""
    count = len(sequences)
    wanted = min(count, max(1, round(count * tokens / max(1, len(sequences.tokens.ids_T)))))
    chosen = np.unique(np.linspace(0, count - 1, wanted).round().astype(np.int64)) if count else np.empty(0, np.int64)
    return sequences.take(chosen)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
