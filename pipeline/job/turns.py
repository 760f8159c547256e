"""Processes that share an output folder take turns at work that only one of them should do at a time."""

import contextlib
import fcntl
import itertools
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from schemas.lock import open_locked
from schemas.storage import create_bytes, filesystem, join, read_bytes, remove_file, write_bytes

TURN_FILE, TAKEN_FILE = ".turn", ".taken"
# Seconds between the checks of a waiting process.
_WAIT_SECONDS = 2.0
# How often `TAKEN_FILE` is rewritten, and how long it may stay unchanged before its process counts as dead.
_BEAT_SECONDS, _SILENT_SECONDS = 10.0, 60.0


@contextmanager
def taking_turns(output: str) -> Iterator[None]:
    """Lets in one process at a time of those that share the folder `output`; the others wait.

    In a local folder, the kernel releases the lock on `.turn` when its process ends. On a filesystem without locks, and
    on an object store, `.taken` names the process that is in and keeps changing while that process lives; a file that
    has not changed for a minute is taken over. Two processes that take over at the same time are both let in.

    Raises:
      UserError: the folder cannot be written.
    """
    fs, path = filesystem(output)
    file = Path(path) / TURN_FILE
    descriptor = open_locked(file, fcntl.LOCK_EX, output) if isinstance(fs, LocalFileSystem) else None
    if descriptor is None:
        with _taken(join(output, TAKEN_FILE)):
            yield
        return
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def _taken(url: str) -> Iterator[None]:
    """Waits until the file is free, then holds it and rewrites it regularly."""
    me = uuid.uuid4().hex
    seen, since = b"", time.monotonic()
    while not create_bytes(url, f"{me} 0\n".encode()):
        with contextlib.suppress(FileNotFoundError):
            if (now := read_bytes(url)) != seen:
                seen, since = now, time.monotonic()
        if time.monotonic() - since > _SILENT_SECONDS:
            remove_file(url)
        else:
            time.sleep(_WAIT_SECONDS)
    left = threading.Event()

    def write() -> None:
        for beat in itertools.count(1):
            if left.wait(_BEAT_SECONDS):
                return
            # If the storage does not answer now, the next write may succeed.
            with contextlib.suppress(Exception):
                write_bytes(url, f"{me} {beat}\n".encode())

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield
    finally:
        left.set()
        writer.join()
        remove_file(url)
