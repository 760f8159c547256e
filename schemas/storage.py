"""Files on any fsspec URL (local paths, gs://...), written atomically."""

import os
import uuid

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UserError


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of `url` and the path within it. UserError for a protocol that is not installed."""
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url}: {str(error).splitlines()[0]}") from None


def join(folder: str, *names: str) -> str:
    """`folder/name/...`, for URLs and local paths alike."""
    return "/".join([folder.rstrip("/"), *names])


def list_files(folder: str) -> set[str]:
    """The paths, relative to `folder`, of all files now below it, whatever an earlier listing said."""
    fs, root = filesystem(folder)
    fs.invalidate_cache()
    prefix = root.rstrip("/") + "/"
    return {path.removeprefix(prefix) for path in fs.find(root)}


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
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another output") from None
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder, not a file; choose another name")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
