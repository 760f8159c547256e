"""Files on any fsspec URL (local paths, gs://...), written atomically."""

import os
import uuid

import fsspec
from fsspec.implementations.local import LocalFileSystem


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of `url` and the path within it."""
    return fsspec.core.url_to_fs(url)


def join(folder: str, *names: str) -> str:
    """`folder/name/...`, for URLs and local paths alike."""
    return "/".join([folder.rstrip("/"), *names])


def exists(url: str) -> bool:
    """Whether a file or folder is at `url` now, whatever an earlier listing said."""
    fs, path = filesystem(url)
    fs.invalidate_cache()
    return fs.exists(path)


def read_bytes(url: str) -> bytes:
    """The content of the file at `url`; FileNotFoundError where there is none."""
    fs, path = filesystem(url)
    return fs.cat_file(path)


def write_bytes(url: str, content: bytes) -> None:
    """Writes a whole file so that a reader sees all of it or nothing.

    Locally a temporary neighbour is renamed into place; an object store commits a
    single put by itself. The temporary name starts with a dot, which Parquet
    readers skip, should a kill leave one behind.
    """
    fs, path = filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(path, content)
        return
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
