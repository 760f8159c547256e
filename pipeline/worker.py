"""What a worker process does: the Beam step, and the teachers it holds in memory."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline.config import PipelineConfig
from pipeline.prediction import Predictor
from pipeline.progress import shard_share
from pipeline.provenance import Run
from pipeline.row_files import Receipt
from pipeline.shards import Shard, Teacher, process_shard
from pipeline.teacher_model import load_model, teacher_fingerprint
from pipeline.teacher_tokenizer import load_tokenizer
from schemas.errors import UserError
from schemas.storage import join
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary

METRICS = "mergedistill"
# While one shard is predicted, another's text is read and a third's file is written.
_SHARDS = threading.BoundedSemaphore(3)


class Pool:
    """Things that are dear to hold, shared between threads, at most so many at a time."""

    def __init__(self):
        self._changed = threading.Condition()
        self._held: dict[Hashable, Any] = {}
        self._users: Counter = Counter()

    @contextmanager
    def use(self, key: Hashable, make: Callable[[], Any], most: int) -> Iterator[Any]:
        """Gives the thing called `key`, made if it is not held; waits while `most` others are in use."""
        with self._changed:
            while key not in self._held and len(self._held) >= most:
                if idle := next((held for held in self._held if not self._users[held]), None):
                    del self._held[idle]
                else:
                    self._changed.wait()
            if key not in self._held:
                self._held[key] = make()
            self._users[key] += 1
            thing = self._held[key]
        try:
            yield thing
        finally:
            del thing
            with self._changed:
                self._users[key] -= 1
                self._changed.notify_all()


# One of each in a process, whatever number of its threads work on shards.
_TEACHERS = Pool()


class PredictShards(beam.DoFn):
    """Runs a lot of shards in order, and counts what `Receipt` holds as Beam metrics."""

    def __init__(self, config: PipelineConfig, run: Run, threads: int | None):
        self._config = config
        self._run = run.fingerprint
        self._fingerprints = {name: teacher.fingerprint for name, teacher in run.teachers.items()}
        self._threads = threads

    def process(self, lot: list[Shard]):
        """Writes the shards' files; emits nothing."""
        for shard in lot:
            key = (shard.teacher, self._fingerprints[shard.teacher], self._run)
            load = partial(self._load, shard.teacher)
            with _SHARDS, _TEACHERS.use(key, load, self._config.teachers_in_memory) as teacher:
                progress = partial(shard_share, shard.path)
                receipt = process_shard(shard, self._config, self._run, teacher, progress)
            _count(shard.language, receipt)

    def _load(self, name: str) -> Teacher:
        """Loads a teacher. UserError where it is not the one that the run began with."""
        config = self._config.teachers[name]
        tokenizer = load_tokenizer(name, config)
        model = load_model(name, config) if self._config.top_k else None
        found, expected = teacher_fingerprint(tokenizer, model), self._fingerprints[name]
        if found != expected:
            raise UserError(
                f"teacher {name!r} ({config.model}) is {found[:12]} here, but was {expected[:12]} when the run began; "
                "pin `revision` to a commit"
            )
        threads = self._config.threads or self._threads or os.cpu_count() or 1
        vocabulary = _vocabulary(self._config.output, self._run)
        return Teacher(
            tokenizer=tokenizer,
            predictor=Predictor(model, tokenizer, config, self._config.top_k, threads) if model else None,
            to_merged=vocabulary.to_merged(name),
            to_own=vocabulary.teacher_ids[name],
            vocabulary_sha256=vocabulary.sha256,
        )


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
