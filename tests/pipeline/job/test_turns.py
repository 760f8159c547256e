"""Taking turns, on file systems with and without locks and links, and on an object store."""

import fcntl
import os
import time
from concurrent import futures

import pytest

from pipeline.job import turns
from pipeline.job.turns import TAKEN_FILE, taking_turns
from schemas.storage import list_files, write_bytes
from tests.support.filesystems import unsupported


@pytest.fixture(params=["locks", "no locks", "no locks, no links", "object store"])
def shared(request, tmp_path, monkeypatch):
    """A folder that processes share."""
    monkeypatch.setattr(turns, "_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(turns, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(turns, "_SILENT_SECONDS", 1.0)
    if "no locks" in request.param:
        monkeypatch.setattr(fcntl, "flock", unsupported)
    if "no links" in request.param:
        monkeypatch.setattr(os, "link", unsupported)
    return f"memory://turns{tmp_path}" if request.param == "object store" else str(tmp_path)


def test_one_at_a_time_is_let_in(shared):
    """Each stays inside for longer than others wait for a dead one."""
    inside, most = 0, 0

    def enter(_) -> None:
        nonlocal inside, most
        with taking_turns(shared):
            inside += 1
            most = max(most, inside)
            time.sleep(1.3)
            inside -= 1

    with futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(enter, range(3)))
    assert most == 1 and not list_files(shared)


def test_nobody_waits_for_the_dead(shared):
    write_bytes(f"{shared}/{TAKEN_FILE}", b"of one that was killed")
    started = time.monotonic()
    with taking_turns(shared):
        assert time.monotonic() - started < 10
