"""The work of a large run's launcher before its workers start, without the teachers themselves."""

import time
from pathlib import Path

import apache_beam as beam

from benchmarks.scale.memory import megabytes
from benchmarks.scale.text import FILE_BYTES, MadeUpText, configuration
from pipeline.engine.tasks import in_threads
from pipeline.job.beam_job import build
from pipeline.job.fingerprint import RunSpec, TextRecord
from pipeline.job.worker import PredictUnits
from pipeline.text.listing import content_digest, names_digest, write_corpus
from pipeline.text.sampling import sample_records
from pipeline.text.survey import find_text, survey_text
from pipeline.text.units import TeacherText
from schemas.manifest import VocabularyRecord

# The same as in `pipeline.job.dry_run.check_sample`.
_SAMPLE_BYTES = 2**18


def make(folder: Path, files: int, shards: int, languages: int) -> None:
    """Makes nothing."""


def measure(folder: Path, files: int, shards: int, languages: int) -> dict[str, float]:
    """Finds, plans and samples the text, and translates the job."""
    started, before = time.process_time(), megabytes()
    config = configuration(str(folder), files, languages)
    corpora = survey_text(config, find_text(config), in_threads)
    texts = [
        TeacherText.of(language, name, corpora[language], config)
        for name, teacher in config.teachers.items()
        for language in teacher.languages
    ]
    for text in texts:
        sample_records(text.corpus, _SAMPLE_BYTES, config.max_record_bytes)
    text = {
        language: TextRecord(files=names_digest(corpus.files), content=content_digest(corpus))
        for language, corpus in corpora.items()
    }
    run = RunSpec(settings={}, teachers={}, vocabulary=VocabularyRecord(size=1, sha256=""), text=text)
    for language, corpus in corpora.items():
        write_corpus(config, language, corpus)
    job = beam.Pipeline()
    units = [unit for text in texts for unit in text.units]
    build(job, units, config, PredictUnits(config, run, None))
    graph = job.to_runner_api().ByteSize()
    return {
        "launcher: processor seconds": time.process_time() - started,
        "launcher: MB": megabytes() - before,
        "launcher: MiB of a language's text that are read": MadeUpText.given / languages / 2**20,
        "launcher: MB of the job's graph": graph / 1e6,
        "launcher: loads of a teacher a shard, at most": len(units) / (files * FILE_BYTES / config.shard_bytes),
    }
