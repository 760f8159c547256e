"""What a survey reads of the text before a run, and what it knows from an earlier one."""

import gzip
import hashlib
import pickle
from unittest.mock import patch

import fsspec
import pytest

from pipeline.config import PipelineConfig
from pipeline.engine.tasks import MOST_TASKS, in_threads
from pipeline.text.listing import read_corpus, write_corpus
from pipeline.text.survey import SurveyTask, find_text, look_at_text, survey_text
from schemas.corpus.files import TextFile
from schemas.corpus.records import check_beginning
from schemas.errors import UserError


def configuration(tmp_path, files: str, **text) -> PipelineConfig:
    teachers = {"t": {"model": "m", "languages": ["en"]}}
    return PipelineConfig(output=str(tmp_path / "p"), teachers=teachers, text={"en": {"files": [files]} | text})


def find(config: PipelineConfig) -> tuple:
    """The corpus, the sources of files that were read whole, and those of files whose beginning was read."""
    whole: list[str] = []
    looked_at: list[str] = []

    def run(tasks: list[SurveyTask]):
        whole.extend(file.source for task in tasks for _, file, _ in task.files)
        return in_threads(tasks)

    def look(file: TextFile) -> None:
        looked_at.append(file.source)
        check_beginning(file)

    with patch("pipeline.text.survey.check_beginning", look):
        listed = find_text(config)
        look_at_text(listed)
        corpus = survey_text(config, listed, run)["en"]
    write_corpus(config, "en", corpus)
    return corpus, whole, looked_at


def test_local_files_are_read_once(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"one {name}\n")
    config = configuration(tmp_path, str(tmp_path / "*.txt"))
    corpus, whole, _ = find(config)
    assert whole == ["a.txt", "b.txt"] and corpus.records == 2
    again, whole, _ = find(config)
    assert again == corpus and whole == []
    assert read_corpus(config, "en").fingerprints == corpus.fingerprints
    (tmp_path / "b.txt").write_text("two b.txt\n")
    changed, whole, _ = find(config)
    assert whole == ["b.txt"] and changed.fingerprints[0] == corpus.fingerprints[0] != changed.fingerprints[1]


def test_files_that_were_found_before_are_counted_when_that_is_needed(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    find(configuration(tmp_path, str(tmp_path / "a.txt")))
    (tmp_path / "b.txt").write_text("three\n")
    corpus, whole, _ = find(configuration(tmp_path, str(tmp_path / "*.txt"), max_records=2))
    # The ranges of the first file depend on the sizes of all files.
    assert whole == ["a.txt", "b.txt"] and corpus.records == 3


def test_of_other_storages_only_a_few_beginnings_are_read(tmp_path):
    memory = fsspec.filesystem("memory")
    for number in range(100):
        memory.pipe_file(f"/surveyed/{number:03d}.txt", b"one\ntwo\n")
    config = configuration(tmp_path, "memory://surveyed")
    corpus, whole, looked_at = find(config)
    assert whole == [] and len(looked_at) == 64 and corpus.records is None and corpus.counts is None
    counted, whole, _ = find(configuration(tmp_path, "memory://surveyed", max_records=10))
    assert len(whole) == 100 and counted.records == 200


def test_many_small_files_are_few_tasks(tmp_path):
    for number in range(600):
        (tmp_path / f"{number:03d}.txt").write_text("one\ntwo\n" * (number % 5))
    config = configuration(tmp_path, str(tmp_path / "*.txt"), max_records=10)
    tasks: list[SurveyTask] = []

    def run(given: list[SurveyTask]):
        tasks.extend(given)
        # As when they are sent to remote workers.
        return in_threads(pickle.loads(pickle.dumps(given)))

    corpus = survey_text(config, find_text(config), run)["en"]
    assert len(tasks) <= MOST_TASKS and sum(len(task.files) for task in tasks) == 600
    assert [sum(counts) for counts in corpus.counts] == [2 * (number % 5) for number in range(600)]
    assert corpus.fingerprints[7] == hashlib.sha256(b"one\ntwo\n" * 2).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "text.en: its files are empty"),
        ("a.txt", "текст".encode("utf-16"), "a.txt: looks like UTF-16"),
        ("a.gz", gzip.compress(b"one\n" * 5000, mtime=0)[:-9], "a.gz: cannot be read"),
        ("a.parquet", b"PAR1", "a.parquet: cannot be read"),
    ],
    ids=["empty", "UTF-16", "truncated", "no Parquet"],
)
def test_a_file_that_is_no_text_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        find(configuration(tmp_path, str(tmp_path / name)))
