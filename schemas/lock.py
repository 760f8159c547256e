"""One owner for each output folder, for as long as a command writes there."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UserError
from schemas.paths import check_output_folder
from schemas.storage import create_bytes, filesystem, make_folder, remove_temporaries

LOCK_FILE, LEASE_FILE = ".lock", ".lease"
# How long it may take for every process to see a lease that was written or taken over.
_SETTLING_SECONDS = 2.0
_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}


@contextmanager
def owning(output: str) -> Iterator[None]:
    """Owns the folder `output`, creating it if needed, and removes files that killed runs left half-written there.

    The kernel releases the lock on `.lock` when its process ends, however it ends. On a filesystem without such locks,
    the file `.lease` names the owner; it is taken over if it names a process of this machine that has ended. An object
    store is not locked: two launchers of one run write the same bytes there, and `_run.json`, which only one process
    can create, tells different runs apart.

    Raises:
      UserError: the folder cannot be written, or another process owns it. Says which, on which machine, and since when.
    """
    fs, path = filesystem(output)
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    check_output_folder(output)
    folder = Path(path)
    made = not folder.exists()
    make_folder(path)
    try:
        with _locked(folder, output):
            remove_temporaries(path)
            yield
    finally:
        if made:
            # A command that was refused should leave nothing behind.
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def sharing(output: str) -> Iterator[None]:
    """Like `owning`, but for processes that write different files in the folder at the same time. Removes nothing.

    A folder is either shared or owned. On a filesystem without locks this cannot be checked, so it counts as shared.

    Raises:
      UserError: the folder cannot be written, or another process owns it.
    """
    fs, path = filesystem(output)
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    check_output_folder(output)
    make_folder(path)
    file = Path(path) / LOCK_FILE
    descriptor = open_locked(file, fcntl.LOCK_SH | fcntl.LOCK_NB, output)
    try:
        yield
    finally:
        if descriptor is not None:
            # The last process removes the file.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink()
            os.close(descriptor)


def open_locked(path: Path, how: int, output: str) -> int | None:
    """Creates and locks a file (`fcntl.flock`), and returns its descriptor.

    If the filesystem has no locks, removes the file and returns None. The owner may remove the file before it unlocks
    it: a process that opened it meanwhile notices and tries again.

    Raises:
      UserError: the file cannot be written, or another process holds it and `how` does not wait. Names `output`.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(f"{output}: cannot be written ({error.strerror}); choose another output") from None
        try:
            fcntl.flock(descriptor, how)
            if _is_at(path, descriptor):
                return descriptor
            os.close(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(_refusal(output, _read(path))) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _UNSUPPORTED:
                raise UserError(f"{output}: cannot be locked ({error.strerror}); choose another output") from None
            path.unlink(missing_ok=True)
            return None


@contextmanager
def _locked(folder: Path, output: str) -> Iterator[None]:
    path = folder / LOCK_FILE
    descriptor = open_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB, output)
    if descriptor is None:
        with _leased(folder / LEASE_FILE, output):
            yield
        return
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, _owner())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def _leased(path: Path, output: str) -> Iterator[None]:
    lease = _owner()
    takes_over = False
    while not create_bytes(str(path), lease):
        owner = _read(path)
        if not owner:
            # Another process is probably writing it right now.
            time.sleep(_SETTLING_SECONDS)
            owner = _read(path)
        if not _is_dead(owner):
            raise UserError(f"{_refusal(output, owner)}; if that process is gone, remove {path}")
        path.unlink(missing_ok=True)
        takes_over = True
    if takes_over:
        # Another process may have taken over from the same dead process and replaced this lease.
        time.sleep(_SETTLING_SECONDS)
        if (owner := _read(path)) != json.loads(lease):
            raise UserError(_refusal(output, owner))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner() -> bytes:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return json.dumps({"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "since": since}).encode()


def _boot() -> str:
    """An id that changes at every boot; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read(path: Path) -> dict:
    """The owner in a lock or lease file; empty if it is missing or only partly written."""
    try:
        owner = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) and {"host", "boot", "pid", "since"} <= owner.keys() else {}


def _is_dead(owner: dict) -> bool:
    """Whether the process of a lease has certainly ended. A half-written lease comes from a killed process."""
    if not owner:
        return True
    if owner["host"] != socket.gethostname():
        return False
    if owner["boot"] != _boot():
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _refusal(output: str, owner: dict) -> str:
    by = "process {pid} on {host}, since {since}".format(**owner) if owner else "another process"
    return f"{output}: is being written by {by}; wait for it to end, or choose another output"
