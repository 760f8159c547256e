"""Owners of outputs, on file systems with and without locks and links, and what dead owners leave behind."""

import errno
import fcntl
import json
import os
import socket
import time
from concurrent import futures

import pytest

from schemas import lock
from schemas.errors import UserError
from schemas.lock import LEASE_FILE, LOCK_FILE, owning, sharing
from schemas.storage import write_bytes
from tests.support.commands import run_python
from tests.support.filesystems import unsupported


@pytest.fixture(params=["locks", "leases", "leases without links"])
def kind(request, monkeypatch):
    monkeypatch.setattr(lock, "_SETTLING_SECONDS", 0.1)
    if request.param != "locks":
        monkeypatch.setattr(fcntl, "flock", unsupported)
    if "without" in request.param:
        monkeypatch.setattr(os, "link", unsupported)
    return request.param


def test_a_second_owner_is_refused_until_the_first_ends(kind, tmp_path):
    output = str(tmp_path / "o")
    with owning(output):
        with pytest.raises(UserError, match=f"process {os.getpid()} on {socket.gethostname()}, since 20"):
            with owning(output):
                pass
        write_bytes(f"{output}/x", b"1")
    assert os.listdir(output) == ["x"]
    with owning(output):
        pass


def test_an_owner_that_did_nothing_leaves_nothing(kind, tmp_path):
    with pytest.raises(UserError, match="bad"), owning(str(tmp_path / "o")):
        raise UserError("bad")
    assert not os.listdir(tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize("half", [False, True])
def test_a_dead_owner_is_taken_over_from(kind, half, tmp_path):
    program = "import os, signal; from schemas import lock\n"
    if kind != "locks":
        program += "import fcntl\ndef no(*_): raise OSError(95, 'no')\nfcntl.flock = no\n"
    program += f"with lock.owning({str(tmp_path)!r}): os.kill(os.getpid(), signal.SIGKILL)"
    assert run_python("-c", program).returncode == -9
    left = tmp_path / (LOCK_FILE if kind == "locks" else LEASE_FILE)
    content = left.read_bytes()
    if half:
        left.write_bytes(content[:9])
    with owning(str(tmp_path)):
        pass
    assert not os.listdir(tmp_path)


def test_of_two_that_take_over_from_a_dead_owner_one_does(tmp_path, monkeypatch):
    """This holds even if the second reads the dead owner's lease before the first removes it."""
    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(lock, "_SETTLING_SECONDS", 0.5)
    (tmp_path / LEASE_FILE).write_text("{")
    live = json.dumps({"host": "elsewhere", "boot": "b", "pid": 1, "since": "today"})

    def overtake():
        while lock._read(tmp_path / LEASE_FILE).get("pid") != os.getpid():
            time.sleep(0.01)
        (tmp_path / LEASE_FILE).write_text(live)

    with futures.ThreadPoolExecutor(1) as pool:
        pool.submit(overtake)
        with pytest.raises(UserError, match="is being written by process 1 on elsewhere"), owning(str(tmp_path)):
            pass
    assert (tmp_path / LEASE_FILE).read_text() == live


def test_a_lease_that_is_just_being_written_is_no_dead_one(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(lock, "_SETTLING_SECONDS", 0.5)
    (tmp_path / LEASE_FILE).write_text("{")
    live = json.dumps({"host": "elsewhere", "boot": "b", "pid": 1, "since": "today"})
    with futures.ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: time.sleep(0.1) or (tmp_path / LEASE_FILE).write_text(live))
        with pytest.raises(UserError, match="is being written by process 1 on elsewhere"), owning(str(tmp_path)):
            pass
    assert (tmp_path / LEASE_FILE).read_text() == live


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES])
def test_a_folder_that_cannot_be_locked_is_refused(error, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(error, "no")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"cannot be locked \(no\); choose another output"), owning(str(tmp_path)):
        pass


def test_a_lease_of_another_machine_or_before_a_reboot(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(lock, "_SETTLING_SECONDS", 0.1)
    owner = {"host": "elsewhere", "boot": "b", "pid": os.getpid(), "since": "today"}
    (tmp_path / LEASE_FILE).write_text(json.dumps(owner))
    with pytest.raises(UserError, match=rf"on elsewhere, .* if that process is gone, remove {tmp_path}/{LEASE_FILE}"):
        with owning(str(tmp_path)):
            pass
    (tmp_path / LEASE_FILE).write_text(json.dumps(owner | {"host": socket.gethostname()}))
    with owning(str(tmp_path)):
        pass


def test_the_next_owner_removes_what_is_half_written_and_nothing_else(tmp_path):
    (tmp_path / "en").mkdir()
    kept = {".a.tmp", "a.tmp", f".a.{'g' * 32}.tmp"}
    for name in [*kept, f".a.parquet.{'0' * 31}f.tmp"]:
        (tmp_path / "en" / name).write_bytes(b"")
    (tmp_path / "en" / f".export.{'1' * 32}.tmp" / "deeper").mkdir(parents=True)
    (tmp_path / "en" / f".export.{'1' * 32}.tmp" / "deeper" / "x").write_bytes(b"")
    with owning(str(tmp_path)):
        assert set(os.listdir(tmp_path / "en")) == kept


@pytest.mark.heavy
def test_a_half_written_claim_is_no_claim(run_pipeline, predictions, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", unsupported)
    (tmp_path / "p").mkdir()
    whole = (predictions / "_run.json").read_bytes()
    (tmp_path / "p" / "_run.json").write_bytes(whole[:100])
    run_pipeline(tmp_path / "p")
    assert (tmp_path / "p" / "_run.json").read_bytes() == whole


def test_a_folder_is_shared_or_owned(tmp_path):
    """Locks belong to descriptors, so one process can act as several."""
    output = str(tmp_path / "out")
    with sharing(output), sharing(output):
        with pytest.raises(UserError, match="out: is being written by another process"), owning(output):
            pass
    assert not (tmp_path / "out" / ".lock").exists()
    with owning(output):
        with pytest.raises(UserError, match="out: is being written by process"), sharing(output):
            pass
    with sharing(output):
        pass
