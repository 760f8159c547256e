"""Tasks in threads, and on the workers of a runner."""

import socket
import time
from functools import partial

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.engine import workers
from pipeline.engine.tasks import MOST_TASKS, in_batches, in_threads
from pipeline.engine.workers import _on_workers, task_runner
from schemas.errors import UserError


def square(number: int) -> bytes:
    if number < 0:
        raise UserError(f"{number}: expected a number from 0 on")
    return str(number**2).encode()


def test_results_come_in_order():
    def late(seconds: float) -> bytes:
        time.sleep(seconds)
        return str(seconds).encode()

    assert list(in_threads([partial(late, seconds) for seconds in (0.05, 0.0, 0.02)])) == [b"0.05", b"0.0", b"0.02"]


def test_after_an_error_nothing_more_is_started():
    begun = []

    def fail(number: int) -> bytes:
        begun.append(number)
        time.sleep(0.01)
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        list(in_threads([partial(fail, number) for number in range(10_000)]))
    assert len(begun) < 1000


@pytest.mark.heavy
def test_workers_give_what_threads_give(tmp_path):
    tasks = [partial(square, number) for number in range(20)]
    actual = list(_on_workers(tasks, PipelineOptions([]), str(tmp_path / "out")))
    assert actual == list(in_threads(tasks)) == [str(number**2).encode() for number in range(20)]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.heavy
def test_a_slow_storage_is_asked_for_several_results_at_a_time(tmp_path, monkeypatch):
    for name in ("read_bytes", "remove_file"):
        quick = getattr(workers, name)
        monkeypatch.setattr(workers, name, lambda url, quick=quick: time.sleep(0.2) or quick(url))
    results = _on_workers([partial(square, number) for number in range(40)], PipelineOptions([]), str(tmp_path / "out"))
    assert next(results) == b"0"
    started = time.monotonic()
    assert len(list(results)) == 39
    # In sequence they would take 16 seconds.
    assert time.monotonic() - started < 4 and not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("sizes", "lengths"),
    [
        ([], []),
        ([5], [1]),
        ([0, 0, 0], [1, 1, 1]),
        ([2**30, 7, 7, 7], [4]),
        ([7, 7, 2**30, 2**30], [2, 1, 1]),
        ([1000] * 1000, None),
    ],
)
def test_batches_are_of_about_the_same_size(sizes, lengths):
    batches = in_batches(range(len(sizes)), sizes)
    assert [index for batch in batches for index in batch] == list(range(len(sizes)))
    if lengths is not None:
        assert [len(batch) for batch in batches] == lengths
    else:
        assert len(batches) == MOST_TASKS and {len(batch) for batch in batches} == {3, 4}


@pytest.mark.heavy
def test_an_error_of_a_worker_is_one_line(tmp_path):
    with pytest.raises(UserError, match="^-3: expected a number from 0 on$"):
        list(_on_workers([partial(square, 1), partial(square, -3)], PipelineOptions([]), str(tmp_path / "out")))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


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


@pytest.mark.heavy
def test_a_pool_that_is_not_there_is_one_line(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=EXTERNAL"]
    options.append(f"--environment_config=127.0.0.1:{port}")
    with pytest.raises(UserError, match=f"^--environment_config: no worker pool answers at 127.0.0.1:{port} "):
        list(_on_workers([partial(square, 1)], PipelineOptions(options), str(tmp_path / "out")))
