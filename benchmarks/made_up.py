"""Predictions of made-up tokens to benchmark the trainer: real Parquet, any vocabulary size, no teacher."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.shard.parquet import encode_rows
from schemas import SCHEMA_VERSION
from schemas.file_table import FileRecord, FileTable
from schemas.footers import read_footer
from schemas.manifest import (
    LanguageRecord,
    Manifest,
    Masking,
    TeacherRecord,
    VocabularyRecord,
    write_manifest,
)
from schemas.ragged import list_array
from schemas.rows import ROW_SCHEMA
from schemas.vocabulary import SPECIAL_ROLES, VOCABULARY_FILE, Vocabulary, write_vocabulary

TOP_K, MAX_LENGTH, ROW_GROUP_ROWS, FILE_ROWS = 8, 128, 2048, 16_384
_SPECIALS = len(SPECIAL_ROLES)
_MASKED = 0.15


def make_predictions(folder: str, vocabulary_size: int, rows: int, languages: int) -> None:
    """Writes `rows` rows of 8 to 128 tokens, as the pipeline would. Token frequencies follow Zipf's law."""
    random = np.random.default_rng(0)
    tokens = [f"<{role}>" for role in SPECIAL_ROLES] + [f"▁{number}" for number in range(vocabulary_size - _SPECIALS)]
    roles = [*SPECIAL_ROLES, *["word"] * (vocabulary_size - _SPECIALS)]
    vocabulary = Vocabulary(tokens, roles, {"teacher": np.arange(vocabulary_size, dtype=np.int32)})
    write_vocabulary(f"{folder}/{VOCABULARY_FILE}", vocabulary)
    names = [f"l{number}" for number in range(languages)]
    files = []
    for name in names:
        for number, start in enumerate(range(0, rows // languages, FILE_ROWS)):
            table = _make_rows(name, min(FILE_ROWS, rows // languages - start), vocabulary_size, random)
            path = f"{name}/teacher/{number:05d}.parquet"
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            content = encode_rows(table, TOP_K, vocabulary.sha256, "made up", "{}", ROW_GROUP_ROWS)
            (Path(folder) / path).write_bytes(content)
            footer = read_footer(f"{folder}/{path}")
            groups = [len(part) for part in table.to_batches(ROW_GROUP_ROWS)]
            tokens_written, masked = (len(table[c].combine_chunks().values) for c in ("input_ids", "masked_positions"))
            files.append(
                FileRecord(
                    path=path,
                    language=name,
                    teacher="teacher",
                    rows=len(table),
                    row_groups=groups,
                    tokens=tokens_written,
                    masked_positions=masked,
                    size=footer.size,
                    footer_sha256=footer.sha256,
                )
            )
    written = {name: sum(file.rows for file in files if file.language == name) for name in names}
    make_manifest(folder, vocabulary, written, FileTable.of(files))


def make_manifest(folder: str, vocabulary: Vocabulary, rows: dict[str, int], files: FileTable) -> None:
    """Writes the manifest of made-up predictions of one teacher; `rows` is by language."""
    write_manifest(
        folder,
        Manifest(
            schema_version=SCHEMA_VERSION,
            run_sha256="made up",
            top_k=TOP_K,
            seed=0,
            max_length=MAX_LENGTH,
            masking=Masking(mlm_probability=_MASKED, mask_replace_prob=1, random_replace_prob=0, keep_prob=0, copies=1),
            teachers={
                "teacher": TeacherRecord(
                    model="made up",
                    revision=None,
                    family="wordpiece",
                    languages=list(rows),
                    vocabulary_size=len(vocabulary),
                    fingerprint="made up",
                )
            },
            vocabulary=VocabularyRecord(size=len(vocabulary), sha256=vocabulary.sha256),
            languages=[
                LanguageRecord(language=name, teacher="teacher", records=n, used=n, rejected={}, rows=n)
                for name, n in rows.items()
            ],
            files=files,
        ),
    )


def _make_rows(language: str, rows: int, vocabulary_size: int, random: np.random.Generator) -> pa.Table:
    lengths = np.clip(random.lognormal(3.7, 0.5, rows).astype(int), 8, MAX_LENGTH)
    counts = np.maximum(1, np.round(lengths * _MASKED).astype(int))
    ids = _draw(lengths.sum(), vocabulary_size, random)
    starts = np.cumsum(lengths) - lengths
    chosen = [
        np.sort(random.choice(length, count, replace=False)) for length, count in zip(lengths, counts, strict=True)
    ]
    positions = np.concatenate(chosen)
    at = positions + np.repeat(starts, counts)
    labels = ids[at].copy()
    ids[at] = SPECIAL_ROLES.index("mask")
    topk_ids = _draw((len(labels), TOP_K), vocabulary_size, random)
    topk_ids[:, 0] = labels
    shares = np.sort(random.dirichlet(np.full(TOP_K + 1, 0.4), len(labels)), axis=1)[:, :0:-1]
    logprobs = np.log(np.maximum(shares, 1e-7)).astype(np.float16)
    offsets, ends = (np.cumsum([0, *sizes]) for sizes in (lengths, counts))
    values = {
        "example_id": [f"{language}:teacher:text:{number}:0:0" for number in range(rows)],
        "language": [language] * rows,
        "teacher": ["teacher"] * rows,
        "input_ids": list_array(ids, offsets),
        "masked_positions": list_array(positions, ends),
        "labels": list_array(labels, ends),
        "label_logprobs": list_array(logprobs[:, 0].astype(np.float32), ends),
        "topk_ids": list_array(topk_ids.ravel(), ends * TOP_K),
        "topk_logprobs": list_array(logprobs.ravel(), ends * TOP_K),
    }
    return pa.table({name: pa.array(values[name]).cast(ROW_SCHEMA.field(name).type) for name in values}, ROW_SCHEMA)


def _draw(shape: int | tuple[int, ...], vocabulary_size: int, random: np.random.Generator) -> np.ndarray:
    """Returns random int32 ids with probability about 1 / rank."""
    ranks = np.exp(random.random(shape) * np.log(vocabulary_size - _SPECIALS))
    return (_SPECIALS - 1 + ranks).astype(np.int32)
