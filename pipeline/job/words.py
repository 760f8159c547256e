"""Counts the words in samples of the text, on the runner's workers. The default tokenizer is fitted to them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import PipelineConfig, TeacherConfig
from pipeline.engine.tasks import RunTasks
from pipeline.student_tokenizers.word_counts import MOST_SAMPLE_BYTES, WORDS_SCHEMA, count_words
from pipeline.teachers.exact_tokenizer import tokenizer_faults
from pipeline.teachers.tokenizer import TeacherTokenizer, load_tokenizer
from pipeline.text.corpus import Corpus
from pipeline.text.sampling import sample_records
from schemas.errors import UserError

# A teacher's tokenizer with merged ids must give the same tokens as the original for this many lines.
_COMPARED_LINES = 1000
_LINES = b"mergedistill.lines"


@dataclass(frozen=True)
class WordsTask:
    """Counts the words in a sample of one language, as each of its teachers segments them.

    Attributes:
      size: bytes of text in the sample.
      fingerprints: the fingerprints of the teachers' tokenizers.
      held: these tokenizers, if they are loaded in this process; other processes load their own.
    """

    language: str
    corpus: Corpus
    size: int
    max_record_bytes: int
    teachers: dict[str, TeacherConfig]
    fingerprints: dict[str, str]
    held: dict[str, TeacherTokenizer] = field(repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"held": {}}

    def __call__(self) -> bytes:
        """Returns an Arrow stream of the words (`WORDS_SCHEMA`, teachers' ids), with the first lines as JSON metadata.

        Raises UserError if a tokenizer fails, or differs from the launcher's.
        """
        sample = sample_records(self.corpus, self.size, self.max_record_bytes)
        lines = [record.text for record in sample.records if not record.fault]
        words = []
        for name in self.teachers:
            with tokenizer_faults(f"teacher {name!r}: its tokenizer fails on a sample of text.{self.language}"):
                words.append(count_words(self.language, self._tokenizer(name), lines))
        schema = WORDS_SCHEMA.with_metadata({_LINES: json.dumps(lines[:_COMPARED_LINES])})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(pa.concat_tables(words).cast(schema))
        return sink.getvalue().to_pybytes()

    def _tokenizer(self, name: str) -> TeacherTokenizer:
        tokenizer = self.held.get(name) or load_tokenizer(name, self.teachers[name])
        if tokenizer.fingerprint != self.fingerprints[name]:
            raise UserError(
                f"teacher {name!r}: its tokenizer on a worker differs from the one where the run began; pin `revision` to a commit"
            )
        return tokenizer


class SampledWords(NamedTuple):
    """The words of a sample as one teacher segments them, in its ids (`WORDS_SCHEMA`); and the sample's first lines."""

    language: str
    teacher: str
    words: pa.Table
    lines: list[str]


def sample_words(
    config: PipelineConfig,
    tokenizers: dict[str, TeacherTokenizer],
    corpora: dict[str, Corpus],
    sample_bytes: int,
    run_tasks: RunTasks,
) -> Iterator[SampledWords]:
    """Yields the words of each teacher and language, in the order of the teachers. It reads each language only once.

    Args:
      sample_bytes: bytes of text for each language; fewer if there are many languages.
    """
    pairs = [(name, language) for name, teacher in config.teachers.items() for language in teacher.languages]
    size = min(sample_bytes, MOST_SAMPLE_BYTES // len(pairs))
    tasks = []
    for language, corpus in corpora.items():
        names = [name for name, of_teacher in pairs if of_teacher == language]
        tasks.append(
            WordsTask(
                language,
                # Only the plan needs fingerprints and counts.
                replace(corpus, fingerprints=(), counts=None),
                size,
                config.max_record_bytes,
                {name: config.teachers[name] for name in names},
                {name: tokenizers[name].fingerprint for name in names},
                {name: tokenizers[name] for name in names},
            )
        )
    by_language = {task.language: _read(result) for task, result in zip(tasks, run_tasks(tasks), strict=True)}
    for name, language in pairs:
        words, lines = by_language[language]
        yield SampledWords(language, name, words.filter(pc.equal(words["teacher"], name)), lines)


def _read(result: bytes) -> tuple[pa.Table, list[str]]:
    words = pa.ipc.open_stream(result).read_all()
    return words.replace_schema_metadata(), json.loads(words.schema.metadata[_LINES])
