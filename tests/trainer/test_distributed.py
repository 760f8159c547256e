"""What the processes of a run send each other, in two real processes."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest

from schemas.errors import UserError
from schemas.predictions import Predictions, open_predictions
from trainer.distributed import start_runtime, stop_runtime

pytestmark = pytest.mark.heavy


def test_more_processes_than_gpus_is_one_line(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(UserError, match="^process 4 of this machine has no GPU, because only 4 can be seen here"):
        start_runtime("float32")


def in_two(make: Callable[[], object]) -> list:
    """What `from_main` returns in two processes, of which only the first can run `make`, or a UserError's message."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(partial(_receive, make, port), range(2)))


def _receive(make: Callable[[], object], port: int, rank: int) -> object:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    runtime = start_runtime("float32")
    try:
        return runtime.from_main(make if rank == 0 else _not_here)
    except UserError as error:
        return str(error)
    finally:
        runtime.barrier()
        stop_runtime()


def _not_here() -> None:
    raise AssertionError("only the main process makes it")


def test_every_process_has_the_main_ones_predictions(predictions):
    first, second = in_two(partial(open_predictions, str(predictions)))
    expected = open_predictions(str(predictions))
    for given in (first, second):
        assert isinstance(given, Predictions)
        assert given.sha256 == expected.sha256 and given.manifests == expected.manifests
        assert given.vocabulary.sha256 == expected.vocabulary.sha256
        assert np.array_equal(given.row_groups, expected.row_groups)


def test_an_error_of_the_main_process_is_that_of_all(tmp_path):
    first, second = in_two(partial(open_predictions, str(tmp_path / "none")))
    assert first == second
    assert str(tmp_path / "none") in first and "\n" not in first
