"""Reruns a run whose units are done: from its configuration to the manifest."""

import time
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.scale.text import FILE_BYTES, configuration
from pipeline.config import PipelineConfig
from pipeline.engine.tasks import in_threads
from pipeline.job.finalize import list_output, make_manifest, read_finished
from pipeline.job.fingerprint import RunSpec, TextRecord, claim_output, settings_of
from pipeline.job.launcher import run_pipeline
from pipeline.job.plan import divide_text, inputs_sha256, remember
from pipeline.shard.parquet import AuditSums, Receipt
from pipeline.shard.written import Written, unit_table
from pipeline.text.listing import write_corpus
from pipeline.text.survey import find_text, survey_text
from pipeline.text.units import Unit
from schemas.file_table import FileRecord
from schemas.manifest import DEFAULT_TOKENIZER, MANIFEST_FILE, TeacherRecord, VocabularyRecord
from schemas.storage import write_bytes
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, write_vocabulary

_ROWS = [2048, 2048, 1000]
# Merged tokens.
_TOKENS = 500_000


def _configuration(folder: Path, shards: int, languages: int) -> PipelineConfig:
    """Returns a configuration whose teachers are folders without a model."""
    files = shards * 2**22 // FILE_BYTES // languages * languages
    config = configuration(str(folder / "p"), files, languages)
    teachers = {
        name: teacher.model_copy(update={"model": str(folder / name)}) for name, teacher in config.teachers.items()
    }
    return config.model_copy(update={"teachers": teachers})


def _begin(config: PipelineConfig) -> list[Unit]:
    """Writes everything that a run writes before its workers start and a rerun reads; returns the units."""
    for teacher in config.teachers.values():
        write_bytes(f"{teacher.model}/config.json", b"{}")
    corpora = survey_text(config, find_text(config), in_threads)
    names = list(config.teachers)
    teacher_ids = {
        name: np.where(np.arange(_TOKENS) % len(names) == number, np.arange(_TOKENS) // len(names), -1).astype(np.int32)
        for number, name in enumerate(names)
    }
    roles = ["pad", "mask", *["word"] * (_TOKENS - 2)]
    vocabulary = Vocabulary([f"token{number}" for number in range(_TOKENS)], roles, teacher_ids)
    teachers = {
        name: TeacherRecord(
            model=teacher.model, revision=None, family="wordpiece", languages=list(teacher.languages),
            vocabulary_size=_TOKENS // len(names), fingerprint="",
        )
        for name, teacher in config.teachers.items()
    }  # fmt: skip
    run = RunSpec(
        settings=settings_of(config),
        teachers=teachers,
        vocabulary=VocabularyRecord(size=_TOKENS, sha256=vocabulary.sha256),
        text={language: TextRecord.of(corpus) for language, corpus in corpora.items()},
    )
    claim_output(config.output, run)
    for language, corpus in corpora.items():
        write_corpus(config, language, corpus)
    remember(config, inputs_sha256(config), run)
    write_vocabulary(f"{config.output}/{VOCABULARY_FILE}", vocabulary)
    for name in (f"{DEFAULT_TOKENIZER}/tokenizer_config.json", MANIFEST_FILE):
        write_bytes(f"{config.output}/{name}", b"{}")
    return [unit for text in divide_text(config, corpora) for unit in text.units]


def make(folder: Path, files: int, shards: int, languages: int) -> None:
    """Makes the folder of a finished run: the tables of all units, and empty files of the right size."""
    config = _configuration(folder, shards, languages)
    units = _begin(config)
    folder = Path(config.output)
    numbers = iter(range(shards))
    for index, unit in enumerate(units):
        written = []
        for shard, _ in enumerate(islice(numbers, shards * (index + 1) // len(units) - shards * index // len(units))):
            path = f"{unit.language}/{unit.teacher}/{unit.number:06d}{shard:06d}.parquet"
            receipt = Receipt(
                records=3000, used=2990, rejected={"empty": 10}, rows=sum(_ROWS), tokens=60 * sum(_ROWS),
                masked_positions=9 * sum(_ROWS), dtype="float32", audit=AuditSums(),
            )  # fmt: skip
            file = FileRecord(
                path=path, language=unit.language, teacher=unit.teacher, rows=receipt.rows, row_groups=_ROWS,
                tokens=receipt.tokens, masked_positions=receipt.masked_positions, size=5000 + shard,
                footer_sha256=f"{shard:064x}",
            )  # fmt: skip
            written.append(Written(file, receipt))
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("wb") as stream:
                stream.truncate(file.size)
        (folder / unit.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / unit.path).write_bytes(unit_table(written))


def measure(folder: Path, files: int, shards: int, languages: int) -> dict[str, float]:
    """Reruns it, and makes its manifest again."""
    config = _configuration(folder, shards, languages)
    started = time.process_time()
    # There is no teacher, so it fails if it loads one.
    manifest = run_pipeline(config, [])
    again = time.process_time() - started
    assert manifest
    assert len(manifest.files) == shards
    run = RunSpec(settings={}, teachers=manifest.teachers, vocabulary=manifest.vocabulary, text={})
    units = [unit for text in divide_text(config, find_text(config)) for unit in text.units]
    finished = read_finished(config.output, units, list_output(config.output))
    started = time.process_time()
    assert make_manifest(config, run, finished).files.content
    return {
        "finished run called again: processor seconds": again,
        "manifest: processor milliseconds a shard": (time.process_time() - started) * 1000 / shards,
    }
