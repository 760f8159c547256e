"""Reading files before a run, here and on the workers of a runner."""

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.job.tasks import _on_workers, in_threads, task_runner
from pipeline.text.survey import FileTask
from schemas.corpus.ranges import TextRange
from schemas.errors import UserError
from tests.support.text_files import text_file


@pytest.fixture
def tasks(tmp_path) -> list[FileTask]:
    tasks = []
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("one\n" * number + "two\n")
        file = text_file(tmp_path / f"{number}.txt")
        tasks.append(FileTask("en", file, [TextRange.whole(file)] if number % 2 else None))
    return tasks


@pytest.mark.heavy
def test_workers_give_what_threads_give(tasks, tmp_path):
    output = tmp_path / "out"
    found = list(_on_workers(tasks, PipelineOptions([]), str(output)))
    assert found == list(in_threads(tasks))
    assert [survey and survey.counts for survey in found] == [None, [2], None, [4], None]
    assert not [path for path in output.rglob("*") if path.is_file()]


@pytest.mark.heavy
def test_an_error_of_a_worker_is_one_line(tasks, tmp_path):
    (tmp_path / "3.txt").write_bytes("текст".encode("utf-16"))
    with pytest.raises(UserError, match="3.txt: looks like UTF-16"):
        _on_workers(tasks, PipelineOptions([]), str(tmp_path / "out"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "is_local"),
    [
        ([], True),
        (["--runner=DirectRunner"], True),
        (["--runner=apache_beam.runners.direct.direct_runner.DirectRunner"], True),
        (["--direct_running_mode=multi_processing"], True),
        (["--runner=DataflowRunner", "--template_location=gs://b/t"], True),
        (["--runner=DataflowRunner"], False),
        (["--runner=PortableRunner"], False),
        (["--runner=FlinkRunner"], False),
    ],
)
def test_threads_are_for_local_runners(arguments, is_local, tmp_path):
    assert (task_runner(PipelineOptions(arguments), str(tmp_path)) is in_threads) == is_local
