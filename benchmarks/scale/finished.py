"""A run whose units are done: what its launcher does to go on or to end."""

import time
from itertools import islice
from pathlib import Path

from benchmarks.scale.text import FILE_BYTES, configuration
from pipeline.config import PipelineConfig
from pipeline.engine.tasks import in_threads
from pipeline.job.finalize import make_manifest, read_finished
from pipeline.job.fingerprint import RunSpec
from pipeline.shard.parquet import AuditSums, Receipt
from pipeline.shard.written import Written, unit_table
from pipeline.text.survey import find_text, survey_text
from pipeline.text.units import TeacherText, Unit
from schemas.file_table import FileRecord
from schemas.manifest import TeacherRecord, VocabularyRecord
from schemas.storage import list_files

_ROWS = [2048, 2048, 1000]


def _units(config: PipelineConfig) -> list[Unit]:
    corpora = survey_text(config, find_text(config), in_threads)
    return [
        unit
        for name, teacher in config.teachers.items()
        for language in teacher.languages
        for unit in TeacherText.of(language, name, corpora[language], config).units
    ]


def _configuration(folder: Path, shards: int, languages: int) -> PipelineConfig:
    files = shards * 2**22 // FILE_BYTES // languages * languages
    return configuration(str(folder), files, languages)


def make(folder: Path, files: int, shards: int, languages: int) -> None:
    """The tables of all units, and empty files of the right size."""
    units = _units(_configuration(folder, shards, languages))
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
    """Lists the folder, finds what is missing, and makes the manifest."""
    config = _configuration(folder, shards, languages)
    units = _units(config)
    started = time.process_time()
    finished = read_finished(str(folder), units, list_files(str(folder)))
    assert len(finished.tables) == len(units)
    resumed = time.process_time() - started
    teachers = {
        name: TeacherRecord(
            model="m", revision=None, family="wordpiece", languages=list(teacher.languages), vocabulary_size=1,
            fingerprint="",
        )
        for name, teacher in config.teachers.items()
    }  # fmt: skip
    run = RunSpec(settings={}, teachers=teachers, vocabulary=VocabularyRecord(size=1, sha256=""), text={})
    started = time.process_time()
    manifest = make_manifest(config, run, finished)
    assert manifest.files.content
    return {
        "resume: processor seconds": resumed,
        "manifest: processor milliseconds a shard": (time.process_time() - started) * 1000 / shards,
    }
