"""An in-memory storage that counts the bytes read from it, with fsspec's caches, like a remote storage."""

from collections import Counter
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile


class _File(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.fetch(self.path, start, end)


class CountedFileSystem(MemoryFileSystem):
    """`counted://`; `read` has the bytes read, by path."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    read: ClassVar[Counter[str]] = Counter()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("counted:/"))

    def fetch(self, path: str, start: int | None, end: int | None) -> bytes:
        content = super().cat_file(path, start, end)
        self.read[path] += len(content)
        return content

    cat_file = fetch

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return _File(self, path, mode, **options) if mode == "rb" else super()._open(path, mode, **options)


fsspec.register_implementation("counted", CountedFileSystem, clobber=True)


def put(name: str, content: bytes) -> str:
    """Writes a file; returns its URL."""
    CountedFileSystem().pipe_file(f"/{name}", content)
    return f"counted://{name}"


def bytes_read() -> int:
    """Returns the bytes read since the last call."""
    total = CountedFileSystem.read.total()
    CountedFileSystem.read.clear()
    return total
