"""Owners of outputs, on file systems with and without locks and links; and what is left by those that died."""

import errno
import fcntl
import json
import os
import socket
import time
from concurrent import futures

import pyarrow as pa
import pytest
import torch

from schemas import lock
from schemas.errors import UserError, first_line
from schemas.lock import LEASE_FILE, LOCK_FILE, owning
from schemas.process import exit_code_of
from schemas.storage import create_bytes, write_bytes
from tests.support.commands import run_python


def unsupported(*_, **__):
    raise OSError(errno.ENOTSUP, "Operation not supported")


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
    """Also where the second has read the dead one's lease before the first removed that."""
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


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_files_are_created_once_without_hard_links(error, tmp_path, monkeypatch):
    def link(*_):
        raise OSError(error, "no links")

    monkeypatch.setattr(os, "link", link)
    assert create_bytes(str(tmp_path / "a"), b"1") and not create_bytes(str(tmp_path / "a"), b"2")
    assert (tmp_path / "a").read_bytes() == b"1" and os.listdir(tmp_path) == ["a"]


def test_a_half_written_claim_is_no_claim(run_pipeline, predictions, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", unsupported)
    (tmp_path / "p").mkdir()
    whole = (predictions / "_run.json").read_bytes()
    (tmp_path / "p" / "_run.json").write_bytes(whole[:100])
    run_pipeline(tmp_path / "p")
    assert (tmp_path / "p" / "_run.json").read_bytes() == whole


def exhaust(kind: str):
    if kind == "torch":
        torch.empty(2**60, dtype=torch.uint8)
    elif kind == "cuda":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    elif kind == "arrow":
        raise pa.ArrowMemoryError("malloc of size 64 failed")
    else:
        raise MemoryError


@pytest.mark.parametrize("kind", ["torch", "cuda", "arrow", "python"])
def test_used_up_memory_says_so(kind, capsys):
    def read():
        try:
            exhaust(kind)
        except Exception as error:
            raise UserError(f"{first_line(error)}; remove the file") from None

    for command in (lambda: exhaust(kind), read):
        assert exit_code_of(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: out of memory (") and "lower batch_tokens" in line and "remove" not in line


@pytest.mark.parametrize("folder", ["missing", "none"])
def test_a_missing_temporary_folder_says_so(folder, capsys, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [f"/{folder}"])
    assert exit_code_of(lambda: tempfile.mkdtemp() and None) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: [Errno 2] No usable temporary directory") and "set TMPDIR" in line


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device", "a"), Exception("No space left on device (os error 28)")]
)
def test_a_full_disk_says_so(error, capsys):
    def fail():
        raise error

    assert exit_code_of(fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no room on a disk (") and "make room" in line


def test_a_kill_at_start_keeps_the_metrics(tmp_path, monkeypatch):
    from trainer.artifacts.metrics import _reopen

    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            _reopen(path, 1)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    _reopen(path, 1).close()
    assert path.read_text() == '{"step": 1}\n'
