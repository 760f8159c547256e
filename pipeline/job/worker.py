"""The work of a worker process: the Beam step, and the state that the threads of a process share."""

import logging
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cached_property, partial

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from pipeline.config import PipelineConfig
from pipeline.job.failures import write_failed
from pipeline.job.fingerprint import RunSpec
from pipeline.job.progress import UnitProgress
from pipeline.shard.parquet import Receipt
from pipeline.shard.process import ShardProcessor
from pipeline.shard.shard import Shard
from pipeline.shard.written import Written, unit_table
from pipeline.teachers.cache import TeacherCache
from pipeline.teachers.loading import Teacher, load_teacher
from pipeline.text.listing import read_corpus
from pipeline.text.units import TeacherText, Unit
from schemas.corpus.files import ChangedFileError
from schemas.errors import ExhaustedError, UserError, first_line, naming_exhaustion
from schemas.secrets import without_secrets
from schemas.storage import exists, join, remove_file, write_bytes
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary

METRICS = "mergedistill"
# Three units overlap: one shard is predicted while another's text is read and a third's file is written.
UNITS_AT_A_TIME = 3
# Attempts per shard: storage may be unreachable for a moment.
_ATTEMPTS = 2
# After this many failures in a row, the teacher itself is at fault rather than a few texts.
_MOST_FAILED = 8

_log = logging.getLogger(__name__)


class WorkerProcess:
    """What one process needs to turn units of work into files. Any number of its threads may share it.

    Attributes:
      progress: the progress of its units.
      texts: the text to read, by language and teacher; missing entries come from the listing in the output folder.
    """

    def __init__(
        self, config: PipelineConfig, run_sha256: str, teacher_fingerprints: dict[str, str], threads: int | None
    ):
        self._config = config
        self._run_sha256 = run_sha256
        self._teacher_fingerprints = teacher_fingerprints
        self._threads = threads
        self._teachers = TeacherCache(config.teachers_in_memory)
        self._at_a_time = threading.BoundedSemaphore(UNITS_AT_A_TIME)
        self._failed_in_a_row: Counter[str] = Counter()
        self.texts: dict[tuple[str, str], TeacherText] = {}
        self.progress = UnitProgress()

    def process(self, unit: Unit) -> Iterator[Receipt]:
        """Writes the missing files of a unit, and then its table. Yields the receipt of each new file.

        A shard that fails twice is set aside with its error, and the unit gets a note instead of a table. If many
        shards of a teacher fail in a row, its remaining units are not processed.

        Raises:
          UserError: the teacher is not the one that the run began with, or memory or a disk is full.
        """
        with naming_exhaustion():
            # The runner may retry a unit that has already finished.
            if exists(join(self._config.output, unit.path)) or not (most := self._failures_left(unit.teacher)):
                return
            with self._teachers.use(unit.teacher, self._load) as teacher, self._at_a_time:
                yield from self._process(unit, teacher, most)

    def _process(self, unit: Unit, teacher: Teacher, most: int) -> Iterator[Receipt]:
        processor = ShardProcessor(self._config, teacher, self._run_sha256)
        there: list[Written] | None = []
        errors: dict[str, str] = {}
        for _ in range(_ATTEMPTS):
            try:
                there, errors = yield from self._attempt(unit, processor, most)
            except ChangedFileError as error:
                there, errors = None, {_text_of(unit): without_secrets(str(error))}
            self.progress.forget(unit)
            if not errors or there is None:
                break
        if errors:
            self._failed_in_a_row[unit.teacher] += len(errors)
            Metrics.counter(METRICS, f"{unit.language}/failed").inc(len(errors))
            write_failed(self._config.output, unit, errors, there)
        else:
            write_bytes(join(self._config.output, unit.path), unit_table(there or []))

    def _attempt(
        self, unit: Unit, processor: ShardProcessor, most: int
    ) -> Generator[Receipt, None, tuple[list[Written], dict[str, str]]]:
        """Makes the missing shards of a unit. Returns the shards that now exist, and the errors of the others.

        It stops after `most` errors. `most` is at least 1 and stays fixed while other units fail, so a unit without
        errors is complete. Raises ChangedFileError if its text has changed since the run began; then it has removed the
        unit's shards.
        """
        note = partial(self.progress.note, unit, self._config.shard_bytes)
        shards = self._text(unit).shards(unit.number)
        there: list[Written] = []
        errors: dict[str, str] = {}
        while len(errors) < most:
            # Frees the previous shard before the next one is read.
            shard = None
            try:
                with naming_exhaustion():
                    if not (shard := next(shards, None)):
                        break
                    is_new = not (written := self._find(shard))
                    written = written or processor.process(shard, note)
            except ExhaustedError:
                raise
            except ChangedFileError:
                # These shards may be from before or after the change.
                for one in there:
                    remove_file(join(self._config.output, one.file.path))
                raise
            except Exception as error:  # An error in one shard does not stop the others.
                if not isinstance(error, UserError):
                    _log.exception("a shard of unit %s failed", unit.path)
                errors[shard.path if shard else _text_of(unit)] = without_secrets(
                    str(error) if isinstance(error, UserError) else first_line(error)
                )
                continue
            there.append(written)
            self.progress.add(unit, written.receipt, self._config.shard_bytes)
            if is_new:
                self._failed_in_a_row[unit.teacher] = 0
                yield written.receipt
        return there, errors

    def _failures_left(self, teacher: str) -> int:
        """Returns how many more shards of a teacher may fail in a row."""
        return max(0, max(_MOST_FAILED, self._config.max_failed + 1) - self._failed_in_a_row[teacher])

    def _text(self, unit: Unit) -> TeacherText:
        pair = unit.language, unit.teacher
        if pair not in self.texts:
            self.texts[pair] = TeacherText.of(*pair, read_corpus(self._config, unit.language), self._config)
        return self.texts[pair]

    def _find(self, shard: Shard) -> Written | None:
        return Written.find(
            shard,
            join(self._config.output, shard.path),
            self._config.top_k,
            self._vocabulary.sha256,
            self._run_sha256,
            self._config.tail_samples,
        )

    def _load(self, name: str) -> Teacher:
        """Loads a teacher. Raises UserError if it is not the one that the run began with."""
        Metrics.counter(METRICS, "teacher_loads").inc()
        return load_teacher(name, self._config, self._vocabulary, self._threads, self._teacher_fingerprints[name])

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return read_vocabulary(join(self._config.output, VOCABULARY_FILE))


def make_worker(config: PipelineConfig, run: RunSpec, threads: int | None) -> WorkerProcess:
    """Returns the worker for the units of a run; `threads` as in `WorkerProcess`."""
    return WorkerProcess(
        config, run.sha256, {name: teacher.fingerprint for name, teacher in run.teachers.items()}, threads
    )


class PredictUnits(beam.DoFn):
    """Processes units, and reports the counts in each `Receipt` as Beam metrics.

    Beam makes an instance for each thread. A teacher is too large for each of them to hold its own, so the instances
    of a process share one `WorkerProcess` through Beam's process-wide `Shared`, which releases it once the next run
    has begun.
    """

    def __init__(self, config: PipelineConfig, run: RunSpec, threads: int | None):
        self._make_worker = partial(make_worker, config, run, threads)
        self._shared = Shared()

    def worker(self) -> WorkerProcess:
        """Returns the worker of the calling process."""
        return self._shared.acquire(self._make_worker)

    def setup(self) -> None:
        """Gets the process's worker. Beam calls this for each instance, which serves one thread at a time."""
        self._worker = self.worker()

    def process(self, element: tuple[str, str, int]) -> None:
        """Writes the files of a unit, given as a plain tuple; emits nothing."""
        unit = Unit(*element)
        for receipt in self._worker.process(unit):
            _count(unit.language, receipt)


def _text_of(unit: Unit) -> str:
    """Returns the name of a unit's text for errors where it cannot be read."""
    return f"text of unit {unit.number} of {unit.language} for {unit.teacher}"


def _count(language: str, receipt: Receipt) -> None:
    counts = {
        "rows": receipt.rows,
        "tokens": receipt.tokens,
        "masked_positions": receipt.masked_positions,
        "records": receipt.records,
        "rejected": sum(receipt.rejected.values()),
    }
    for name, count in counts.items():
        Metrics.counter(METRICS, f"{language}/{name}").inc(count)
