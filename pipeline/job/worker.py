"""What a worker process does: the Beam step, and the teachers it holds in memory."""

import threading
from functools import lru_cache, partial

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline.config import PipelineConfig
from pipeline.corpus.records import Decompressor
from pipeline.job.fingerprint import Run
from pipeline.job.progress import shard_progress
from pipeline.shard.parquet import Receipt
from pipeline.shard.process import ShardProcessor
from pipeline.shard.shard import Shard
from pipeline.teachers.cache import Pool
from pipeline.teachers.loading import Teacher, load_teacher
from schemas.errors import naming_exhaustion
from schemas.storage import join
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary

METRICS = "mergedistill"
# While one shard is predicted, another's text is read and a third's file is written.
_SHARDS = threading.BoundedSemaphore(3)


# One of each in a process, whatever number of its threads work on shards.
_TEACHERS = Pool()


class PredictShards(beam.DoFn):
    """Runs a lot of shards in order, and counts what `Receipt` holds as Beam metrics."""

    def __init__(self, config: PipelineConfig, run: Run, threads: int | None):
        self._config = config
        self._run = run.fingerprint
        self._fingerprints = {name: teacher.fingerprint for name, teacher in run.teachers.items()}
        self._threads = threads

    def setup(self) -> None:
        """Called once for each instance, which serves one thread at a time."""
        self._decompressor = Decompressor()

    def process(self, lot: list[Shard]):
        """Writes the shards' files; emits nothing."""
        for shard in lot:
            key = (shard.teacher, self._fingerprints[shard.teacher], self._run)
            load = partial(self._load, shard.teacher)
            use = _TEACHERS.use(key, load, self._config.teachers_in_memory)
            with naming_exhaustion(), _SHARDS, use as teacher:
                progress = partial(shard_progress, shard.path)
                receipt = ShardProcessor(self._config, teacher, self._run).process(shard, progress, self._decompressor)
            _count(shard.language, receipt)

    def _load(self, name: str) -> Teacher:
        """Loads a teacher. UserError where it is not the one that the run began with."""
        vocabulary = _vocabulary(self._config.output, self._run)
        return load_teacher(name, self._config, vocabulary, self._threads, self._fingerprints[name])


@lru_cache(maxsize=1)
def _vocabulary(output: str, run: str) -> Vocabulary:
    """Read once a process; by run, since the file could have changed."""
    return read_vocabulary(join(output, VOCABULARY_FILE))


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
