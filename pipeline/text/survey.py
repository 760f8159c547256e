"""Surveys the text of each language before a run: its content's fingerprints and, if needed, record counts.

Remote storage keeps checksums. Local files have none, so they are read once, and checked at the same time; a rerun
reads only those that have changed. Records are counted if `max_records` asks for a part of them.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.config import PipelineConfig
from pipeline.engine.tasks import RunTasks, in_batches
from pipeline.text.corpus import Corpus
from pipeline.text.listing import read_corpus
from schemas.corpus.files import TextFile, find_files
from schemas.corpus.ranges import TextRange
from schemas.corpus.records import check_beginning
from schemas.corpus.survey import Survey, is_local, survey_file
from schemas.errors import UserError

# Limit of files per language whose beginnings are checked at first.
MOST_CHECKED = 64
# Anything shorter shows no progress bar.
_SECONDS = 5


class FileToRead(NamedTuple):
    """A file to read whole, and the ranges whose records are counted."""

    language: str
    file: TextFile
    parts: list[TextRange]


@dataclass(frozen=True)
class SurveyTask:
    """Files to read whole."""

    files: list[FileToRead]

    def __call__(self) -> bytes:
        """Returns the survey of each file as JSON. Raises UserError like `survey_file`."""
        return json.dumps([asdict(survey_file(file, parts)) for _, file, parts in self.files]).encode()


def find_text(config: PipelineConfig) -> dict[str, Corpus]:
    """Finds each language's files. Raises UserError if a pattern matches nothing or all of a language's are empty."""
    corpora = {
        language: Corpus.of(find_files(language, text.files, text.field), config.shard_bytes)
        for language, text in config.text.items()
    }
    for language, corpus in corpora.items():
        if not corpus.size:
            raise UserError(f"text.{language}: its files are empty")
    return corpora


def look_at_text(corpora: dict[str, Corpus]) -> None:
    """Checks the beginnings of some files of each language, in this process. Raises UserError if one is not text."""
    for corpus in corpora.values():
        files = corpus.files
        chosen = np.unique(np.linspace(0, len(files) - 1, min(MOST_CHECKED, len(files))).round().astype(int))
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(check_beginning, [files[index] for index in chosen.tolist()]):
                pass


def survey_text(config: PipelineConfig, corpora: dict[str, Corpus], run_tasks: RunTasks) -> dict[str, Corpus]:
    """Adds the survey of each file to the corpora. Raises UserError if a file cannot be read, or is not text."""
    known = {language: _known(config, language, corpus) for language, corpus in corpora.items()}
    files: list[FileToRead] = []
    for language, corpus in corpora.items():
        files += _files_to_read(config, language, corpus, known[language])
    tasks = [SurveyTask(batch) for batch in in_batches(files, [file.size for _, file, _ in files])]
    with tqdm(desc="reading text", total=len(files), unit=" files", leave=False, delay=_SECONDS) as bar:
        for task, surveys in zip(tasks, run_tasks(tasks), strict=True):
            for (language, file, _), survey in zip(task.files, json.loads(surveys), strict=True):
                known[language][file.source] = Survey(**survey)
            bar.update(len(task.files))
    return {language: _surveyed(config, language, corpus, known[language]) for language, corpus in corpora.items()}


def _known(config: PipelineConfig, language: str, corpus: Corpus) -> dict[str, Survey]:
    """Returns the known surveys by source: from an earlier call if the file is unchanged, or from remote storage."""
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


def _files_to_read(config: PipelineConfig, language: str, corpus: Corpus, known: dict[str, Survey]) -> list[FileToRead]:
    counted = config.text[language].max_records is not None
    files = []
    for index, file in enumerate(corpus.files):
        survey = known.get(file.source)
        if survey is None or (counted and not survey.counts):
            files.append(FileToRead(language, file, corpus.ranges(index)))
    return files


def _surveyed(config: PipelineConfig, language: str, corpus: Corpus, surveys: dict[str, Survey]) -> Corpus:
    in_order = [surveys[file.source] for file in corpus.files]
    are_counted = all(len(survey.counts) == len(corpus.ranges(index)) for index, survey in enumerate(in_order))
    counts = [survey.counts for survey in in_order] if are_counted else None
    surveyed = corpus.surveyed([survey.fingerprint for survey in in_order], counts)
    if surveyed.records == 0 and config.text[language].max_records is not None:
        raise UserError(f"text.{language}: its files have no records")
    return surveyed
