"""Files on any fsspec URL (local paths, gs://...), written atomically.

Every function raises UserError if the storage cannot be reached after its retries.
"""

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

from schemas.errors import ExhaustedError, UserError, first_line
from schemas.paths import local_path
from schemas.secrets import without_secrets

# gcsfs also raises whatever it logs; its log would only add a traceback. Programs that set up logging still get it.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())
# A request to Cloud Storage without an answer for this long is retried a few times.
SILENCE_SECONDS = 60.0
_CHAIN = re.compile(r"::\w+://")
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns the filesystem of `url` and the path within it. Raises UserError for a protocol that is not installed."""
    local = local_path(url)
    if local is not None:
        # The name is taken literally, even if it contains `::`.
        return LocalFileSystem(), os.path.abspath(local)
    options = {}
    if url.startswith(("gs://", "gcs://")):
        import aiohttp

        # Without timeouts gcsfs waits forever. It would not retry a request that exceeds a limit on the total time.
        options["requests_timeout"] = aiohttp.ClientTimeout(sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS)
    try:
        if "::" in url and not _CHAIN.search(url):
            # An ordinary name that fsspec would parse as a chain of filesystems.
            of_protocol = fsspec.get_filesystem_class(url.partition("://")[0])
            return of_protocol(**of_protocol._get_kwargs_from_urls(url), **options), of_protocol._strip_protocol(url)
        return fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise UserError(f"{without_secrets(url)}: {without_secrets(first_line(error))}") from None


@contextmanager
def reaching(what: str) -> Iterator[None]:
    """Turns the exception of a filesystem that is unreachable after its retries into a UserError about `what`."""
    try:
        yield
    except Exception as error:
        if not is_out_of_reach(error):
            raise
        raise UserError(
            f"{what} cannot be reached ({type(error).__name__}: {first_line(error)}); "
            "check the connection and the access rights, then run the same command again to go on"
        ) from None


@contextmanager
def reaching_folder(what: str) -> Iterator[None]:
    """Like `reaching`, for listing and writing on other storage than this machine's, which also need a bucket."""
    try:
        with reaching(what):
            yield
    except FileNotFoundError:
        raise UserError(f"{what}: there is no such bucket or folder; create it, or correct the URL") from None


def is_out_of_reach(error: Exception) -> bool:
    """Whether a filesystem's exception means that it, or a file on it, cannot be reached."""
    # Compare module names, so that a run on local files does not import these packages.
    package = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, ConnectionError | TimeoutError | PermissionError)
        or package in ("aiohttp", "gcsfs", "google", "requests")
        # gcsfs raises this for status 403.
        or (type(error) is OSError and str(error).startswith("Forbidden"))
    )


def location(url: str) -> str:
    """Returns the same text for all spellings of a location: an absolute local path without links, or a URL."""
    fs, path = filesystem(url)
    return os.path.realpath(path) if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path).rstrip("/")


def join(folder: str, *names: str) -> str:
    """`folder/name/...`, for URLs and local paths alike."""
    return "/".join([folder.rstrip("/"), *names])


def list_files(folder: str) -> dict[str, int]:
    """Returns the paths (relative to `folder`) and sizes of all files now below it, without a cached listing."""
    fs, root = filesystem(folder)
    if isinstance(fs, LocalFileSystem):
        return _list_local(root)
    # Invalidate only this folder: opening a file whose listing is not cached costs two more requests.
    fs.invalidate_cache(root)
    prefix = root.rstrip("/") + "/"
    with reaching_folder(without_secrets(folder)):
        return {path.removeprefix(prefix): info["size"] for path, info in fs.find(root, detail=True).items()}


def _list_local(root: str) -> dict[str, int]:
    """`list_files` for a local folder, without fsspec's dictionary for each file."""
    sizes = {}
    folders = [""]
    while folders:
        parent = folders.pop()
        with contextlib.suppress(OSError), os.scandir(os.path.join(root, parent)) as entries:
            for entry in entries:
                path = f"{parent}{entry.name}"
                if entry.is_dir():
                    folders.append(f"{path}/")
                else:
                    with contextlib.suppress(FileNotFoundError):
                        sizes[path] = entry.stat().st_size
    return {path: sizes[path] for path in sorted(sizes)}


def exists(url: str) -> bool:
    """Whether a file is at `url` now."""
    fs, path = filesystem(url)
    fs.invalidate_cache(path)
    with reaching(without_secrets(url)):
        return fs.exists(path)


def remove_file(url: str) -> None:
    """Removes the file at `url`, if there is one."""
    fs, path = filesystem(url)
    with contextlib.suppress(FileNotFoundError), reaching(without_secrets(url)):
        fs.rm_file(path)


def read_bytes(url: str) -> bytes:
    """Returns the content of the file at `url`. Raises FileNotFoundError if there is none."""
    fs, path = filesystem(url)
    with reaching(without_secrets(url)):
        return fs.cat_file(path)


def write_bytes(url: str, content: bytes) -> None:
    """Writes a file so that a reader sees either all of it or nothing.

    Locally this renames a temporary file in the same folder; on an object store a single put is atomic. The temporary
    name starts with a dot, so that Parquet readers skip the file if a kill leaves it behind.
    """
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        os.replace(_temporary(path, content), path)
        return
    with reaching_folder(without_secrets(url)):
        fs.pipe_file(path, content)


def create_bytes(url: str, content: bytes) -> bool:
    """Like `write_bytes`, but keeps an existing file; returns whether it wrote.

    If several processes write at once, exactly one succeeds on local filesystems and on Google Cloud Storage. On a
    local filesystem without hard links, a kill may leave a partial file.
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
            with reaching_folder(without_secrets(url)):
                fs.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    return True


def check_writable(folder: str) -> None:
    """Raises UserError if a folder of other storage than this machine's cannot be written, by writing a file to it."""
    if local_path(folder) is None:
        probe = _temporary_name(folder, "probe")
        write_bytes(probe, b"")
        remove_file(probe)


def make_folder(folder: str) -> None:
    """Creates a local folder and its parents if needed. Raises UserError if that fails."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror}); choose another output") from None


@contextmanager
def temporary_folder(folder: str, name: str) -> Iterator[str]:
    """Yields an empty folder in the local `folder` and removes it at the end. Move finished files out before that."""
    path = _temporary_name(folder, name)
    make_folder(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_temporaries(folder: str) -> None:
    """Removes what killed or failed writes left below a local folder. Only the folder's owner may call it."""
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
    """Writes a complete temporary file in the folder of `path` and returns its path."""
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
        raise ExhaustedError(
            f"{path}: cannot be written ({error.strerror}); free disk space, or choose another output"
        ) from None
    return temporary
