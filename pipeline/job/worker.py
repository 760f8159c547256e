"""What a worker process does: the Beam step, and what the threads of a process share."""

import threading
from functools import cached_property, partial

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from pipeline.config import PipelineConfig
from pipeline.job.fingerprint import RunSpec
from pipeline.job.progress import ShardProgress
from pipeline.shard.parquet import Receipt
from pipeline.shard.process import ShardProcessor
from pipeline.shard.shard import Shard
from pipeline.teachers.cache import TeacherCache
from pipeline.teachers.loading import Teacher, load_teacher
from schemas.corpus.records import Decompressor
from schemas.errors import naming_exhaustion
from schemas.storage import join
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary

METRICS = "mergedistill"
# While one shard is predicted, the text of another is read and the file of a third is written.
_SHARDS_AT_A_TIME = 3


class WorkerProcess:
    """What one process needs to turn shards into files, whatever number of its threads do so.

    Attributes:
      progress: how far its shards are.
    """

    def __init__(
        self, config: PipelineConfig, run_sha256: str, teacher_fingerprints: dict[str, str], threads: int | None
    ):
        self._config = config
        self._run_sha256 = run_sha256
        self._teacher_fingerprints = teacher_fingerprints
        self._threads = threads
        self._teachers = TeacherCache(config.teachers_in_memory)
        self._shards = threading.BoundedSemaphore(_SHARDS_AT_A_TIME)
        self.progress = ShardProgress()

    def process(self, shard: Shard, decompressor: Decompressor) -> Receipt:
        """Writes the file of a shard.

        Args:
          decompressor: of the thread, as in `read_records`.

        Raises:
          UserError: as in `ShardProcessor.process`, or memory or a disk is used up.
        """
        with naming_exhaustion(), self._shards, self._teachers.use(shard.teacher, self._load) as teacher:
            processor = ShardProcessor(self._config, teacher, self._run_sha256)
            return processor.process(shard, partial(self.progress.note, shard.path), decompressor)

    def _load(self, name: str) -> Teacher:
        """Loads a teacher. UserError where it is not the one that the run began with."""
        return load_teacher(name, self._config, self._vocabulary, self._threads, self._teacher_fingerprints[name])

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return read_vocabulary(join(self._config.output, VOCABULARY_FILE))


class PredictShards(beam.DoFn):
    """Runs a lot of shards in order, and counts what `Receipt` holds as Beam metrics.

    Beam makes an instance for each thread. A teacher is too large to be held by each of them, so the instances of a
    process have one `WorkerProcess`. That they find it needs something process-wide: Beam's own `Shared`, which lets
    it go when the next run has begun.
    """

    def __init__(self, config: PipelineConfig, run: RunSpec, threads: int | None):
        teacher_fingerprints = {name: teacher.fingerprint for name, teacher in run.teachers.items()}
        self._make_worker = partial(WorkerProcess, config, run.sha256, teacher_fingerprints, threads)
        self._shared = Shared()

    def worker(self) -> WorkerProcess:
        """The one of the process in which this is called."""
        return self._shared.acquire(self._make_worker)

    def setup(self) -> None:
        """Called by Beam for each instance, which serves one thread at a time."""
        self._worker = self.worker()
        self._decompressor = Decompressor()

    def process(self, lot: list[Shard]) -> None:
        """Writes the shards' files; emits nothing."""
        for shard in lot:
            _count(shard.language, self._worker.process(shard, self._decompressor))


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
