"""Before a run: what the text of each language is, where only its files can say so.

Storages keep checksums of what they hold. Local files have none, so they are read once, and checked at the same time; a
rerun reads only those that have changed. Records are counted where `max_records` asks for a part of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.config import PipelineConfig
from pipeline.text.corpus import Corpus
from pipeline.text.listing import read_corpus
from schemas.corpus.files import TextFile, find_files
from schemas.corpus.ranges import TextRange
from schemas.corpus.records import check_beginning
from schemas.corpus.survey import Survey, is_local, survey_file
from schemas.errors import UserError

# Files of a language whose beginning is looked at where nobody reads them whole before the run.
MOST_CHECKED = 64


@dataclass(frozen=True)
class FileTask:
    """A file to read whole, or only to look at.

    Attributes:
      parts: ranges whose records are counted; None where only the beginning is looked at.
    """

    language: str
    file: TextFile
    parts: list[TextRange] | None

    def run(self) -> Survey | None:
        """What was learnt; UserError as in `survey_file`."""
        if self.parts is None:
            check_beginning(self.file)
            return None
        return survey_file(self.file, self.parts)


# Runs tasks, wherever, and gives their results in order.
RunTasks = Callable[[list[FileTask]], Iterable[Survey | None]]


def find_text(config: PipelineConfig) -> dict[str, Corpus]:
    """The files of each language. UserError where a pattern matches nothing, or all files of a language are empty."""
    corpora = {
        language: Corpus.of(find_files(language, text.files, text.field), config.shard_bytes)
        for language, text in config.text.items()
    }
    for language, corpus in corpora.items():
        if not corpus.size:
            raise UserError(f"text.{language}: its files are empty")
    return corpora


def survey_text(config: PipelineConfig, corpora: dict[str, Corpus], run_tasks: RunTasks) -> dict[str, Corpus]:
    """The same with what has to be known of each file. UserError where a file cannot be read, or is no text."""
    known = {language: _known(config, language, corpus) for language, corpus in corpora.items()}
    tasks = [task for language, corpus in corpora.items() for task in _tasks(config, language, corpus, known[language])]
    for task, survey in zip(tasks, run_tasks(tasks), strict=True):
        if survey:
            known[task.language][task.file.source] = survey
    return {language: _surveyed(config, language, corpus, known[language]) for language, corpus in corpora.items()}


def _known(config: PipelineConfig, language: str, corpus: Corpus) -> dict[str, Survey]:
    """By source, what an earlier call wrote of the files that are still the same; what a storage says costs nothing."""
    known = {file.source: Survey(file.checksum or file.version, []) for file in corpus.files if not is_local(file)}
    try:
        earlier = read_corpus(config, language)
    except UserError:
        return known
    versions = {file.source: (file.size, file.version) for file in corpus.files}
    # Ranges depend on the sizes of all files.
    counts = earlier.counts if [file.size for file in earlier.files] == [file.size for file in corpus.files] else None
    for index, file in enumerate(earlier.files):
        if versions.get(file.source) == (file.size, file.version):
            known[file.source] = Survey(earlier.fingerprints[index], list(counts[index]) if counts else [])
    return known


def _tasks(config: PipelineConfig, language: str, corpus: Corpus, known: dict[str, Survey]) -> list[FileTask]:
    counted = config.text[language].max_records is not None
    tasks: list[FileTask] = []
    unread: list[TextFile] = []
    for index, file in enumerate(corpus.files):
        parts = corpus.ranges(index)
        survey = known.get(file.source)
        if survey is None or (counted and not survey.counts):
            tasks.append(FileTask(language, file, parts))
        elif not is_local(file):
            unread.append(file)
    chosen = np.unique(np.linspace(0, len(unread) - 1, min(MOST_CHECKED, len(unread))).round().astype(int))
    return tasks + [FileTask(language, unread[index], None) for index in chosen.tolist()]


def _surveyed(config: PipelineConfig, language: str, corpus: Corpus, surveys: dict[str, Survey]) -> Corpus:
    in_order = [surveys[file.source] for file in corpus.files]
    are_counted = all(len(survey.counts) == len(corpus.ranges(index)) for index, survey in enumerate(in_order))
    counts = [survey.counts for survey in in_order] if are_counted else None
    surveyed = corpus.surveyed([survey.fingerprint for survey in in_order], counts)
    if surveyed.records == 0 and config.text[language].max_records is not None:
        raise UserError(f"text.{language}: its files hold no records")
    return surveyed
