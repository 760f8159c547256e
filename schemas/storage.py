"""Files on any fsspec URL (local paths, gs://...), written atomically."""

import contextlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UserError, first_line
from schemas.paths import local_path
from schemas.secrets import without_secrets

# What it logs, with a traceback, it raises too. Where a program has set up logging it still does.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())
# A request to Cloud Storage that hears nothing for so long is made again, a few times.
SILENCE_SECONDS = 60.0
_CHAIN = re.compile(r"::\w+://")
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of `url` and the path within it. UserError for a protocol that is not installed."""
    local = local_path(url)
    if local is not None:
        # Literally, whatever `::` is in its name.
        return LocalFileSystem(), os.path.abspath(local)
    options = {}
    if url.startswith(("gs://", "gcs://")):
        import aiohttp

        # By itself gcsfs waits for ever. A total time would be an error that it does not try again after.
        options["requests_timeout"] = aiohttp.ClientTimeout(sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
    try:
        if "::" in url and not _CHAIN.search(url):
            # A name like any other, which fsspec would take for a chain of filesystems.
            of_protocol = fsspec.get_filesystem_class(url.partition("://")[0])
            return of_protocol(**of_protocol._get_kwargs_from_urls(url), **options), of_protocol._strip_protocol(url)
        return fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise UserError(f"{without_secrets(url)}: {without_secrets(first_line(error))}") from None


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turns what is raised by a filesystem that cannot be reached, after its own tries, into a UserError on `what`."""
    try:
        yield
    except Exception as error:
        if not _is_out_of_reach(error):
            raise
        raise UserError(
            f"{what} is out of reach ({type(error).__name__}: {first_line(error)}); "
            "see to the connection and the access rights, then run the same command again to go on"
        ) from None


def _is_out_of_reach(error: Exception) -> bool:
    # By module, so that a run on local files need not import these.
    package = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, ConnectionError | TimeoutError | PermissionError)
        or package in ("aiohttp", "gcsfs", "google", "requests")
        # What gcsfs makes of status 403.
        or (type(error) is OSError and str(error).startswith("Forbidden"))
    )


def location(url: str) -> str:
    """The same text for all spellings of one place: an absolute local path without links, or a URL."""
    fs, path = filesystem(url)
    return os.path.realpath(path) if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path).rstrip("/")


def join(folder: str, *names: str) -> str:
    """`folder/name/...`, for URLs and local paths alike."""
    return "/".join([folder.rstrip("/"), *names])


def list_files(folder: str) -> dict[str, int]:
    """The paths, relative to `folder`, and sizes of all files now below it, whatever an earlier listing said."""
    fs, root = filesystem(folder)
    # Of this folder alone: without the listing that another file is in, opening it costs two requests more.
    fs.invalidate_cache(root)
    prefix = root.rstrip("/") + "/"
    return {path.removeprefix(prefix): info["size"] for path, info in fs.find(root, detail=True).items()}


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
    if isinstance(fs, LocalFileSystem):
        os.replace(_temporary(path, content), path)
    else:
        fs.pipe_file(path, content)


def create_bytes(url: str, content: bytes) -> bool:
    """Like `write_bytes`, but leaves a file that is already there, and says whether it wrote.

    Of several writers at once one succeeds, where the filesystem can tell them apart:
    locally and on Google Cloud Storage. Where a local filesystem has no hard links, a kill
    may leave a part of the file.
    """
    fs, path = filesystem(url)
    try:
        if isinstance(fs, LocalFileSystem):
            temporary = _temporary(path, content)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:
                # exFAT, gcsfuse, some network drives.
                _create_in_place(path, content)
            finally:
                os.unlink(temporary)
        else:
            fs.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    return True


def make_folder(folder: str) -> None:
    """Makes a local folder and those above it, where they are not there. UserError where that cannot be."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another output") from None


@contextmanager
def temporary_folder(folder: str, name: str) -> Iterator[str]:
    """An empty folder in the local `folder`, removed in the end. What is whole is to be moved out of it."""
    path = _temporary_name(folder, name)
    make_folder(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_temporaries(folder: str) -> None:
    """Removes what writes that were killed, or had no room, left below a local folder. Its owner alone may do so."""
    for parent, folders, names in os.walk(folder):
        for name in filter(_TEMPORARY.fullmatch, names):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(parent, name))
        for name in filter(_TEMPORARY.fullmatch, folders):
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)


def _create_in_place(path: str, content: bytes) -> None:
    with open(path, "xb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.unlink(path)
            raise


def _temporary_name(folder: str, name: str) -> str:
    return os.path.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")


def _temporary(path: str, content: bytes) -> str:
    """Writes a complete file beside `path` and gives its path."""
    folder, name = os.path.split(path)
    make_folder(folder)
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder, not a file; choose another name")
    temporary = _temporary_name(folder, name)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room, or choose another output") from None
    return temporary
