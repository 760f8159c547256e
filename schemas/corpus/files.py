"""Finds text files by paths, folders, globs and URLs, and takes each file's format from its name."""

import glob
import os
import posixpath
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UserError
from schemas.secrets import without_query_values, without_secrets
from schemas.storage import filesystem, join, reaching_folder

# The suffix of a compressed file, and Arrow's name for the codec.
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
# The keys under which storages report a file's version, and the checksum of its content.
_VERSIONS = ("generation", "ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "created")
_CHECKSUMS = ("crc32c", "md5Hash", "ETag")


@dataclass(frozen=True)
class TextFile:
    """One file of one language.

    Attributes:
      url: where it is.
      source: its name in example ids: the path below the folder that the pattern names, so that moving the corpus keeps
        the ids.
      field: the JSON field or Parquet column with the text.
      size: its size in bytes when it was found.
      version: the storage's mark of this version of the file, which differs if the file is replaced: a generation, an
        entity tag, or a modification time.
      checksum: the storage's checksum of its content, if there is one.
    """

    url: str
    source: str
    field: str = "text"
    size: int = 0
    version: str = ""
    checksum: str = ""

    @property
    def codec(self) -> str | None:
        """Arrow's name for its compression; None if it is not compressed."""
        return CODECS.get(posixpath.splitext(self._name)[1])

    @property
    def is_parquet(self) -> bool:
        """Whether its records are the rows of a Parquet file."""
        return self._name.endswith(".parquet")

    @property
    def is_json_lines(self) -> bool:
        """Whether its lines are JSON objects, compressed or not."""
        return self.content_name.endswith(_JSON_LINES)

    @property
    def content_name(self) -> str:
        """Its name in lower case, without the ending of a compressed file: its own ending says what the content is."""
        return posixpath.splitext(self._name)[0] if self.codec else self._name

    @property
    def shown(self) -> str:
        """`url` for messages, without secrets."""
        return without_secrets(self.url)

    @property
    def _name(self) -> str:
        """The name to check for endings: the URL in lower case, without its query."""
        return (re.sub(r"\?[^/?]*=.*", "", self.url) if "://" in self.url else self.url).lower()


def find_files(language: str, patterns: list[str], field: str = "text") -> list[TextFile]:
    """Returns the files of one language, sorted by source. A folder stands for all files below it.

    A hidden file, or one in a hidden folder, is found only if the pattern is its name.

    Raises:
      UserError: a pattern matches nothing, its storage cannot be reached, or two files would share a source name.
    """
    files: dict[str, TextFile] = {}
    seen: set[str] = set()
    for pattern in patterns:
        fs, path = filesystem(pattern)
        is_local = isinstance(fs, LocalFileSystem)
        with reaching_folder(f"text.{language}: {without_secrets(pattern)}"):
            base, matches = _matches(fs, path)
        if not matches:
            raise UserError(f"text.{language}: no file matches {without_secrets(pattern)!r}")
        for match in matches:
            if not match.isprintable() and match != match.encode("utf-8", "replace").decode():
                raise UserError(f"text.{language}: the name {match!a} is not UTF-8; rename the file")
            url = match if is_local else fs.unstrip_protocol(match)
            # A file that two patterns match, or that has two names, is read once.
            real_url = os.path.realpath(match) if is_local else url
            if real_url in seen:
                continue
            seen.add(real_url)
            source = posixpath.relpath(match, base)
            source = source if is_local else without_query_values(source)
            file = TextFile(url, source, field, *_facts(fs, match, matches[match]))
            if file.source in files:
                raise UserError(
                    f"text.{language}: {files[file.source].shown} and {file.shown} are both called {file.source!r} "
                    "in example ids; rename one, or give one pattern for the folder that contains both"
                )
            files[file.source] = file
    return [files[source] for source in sorted(files)]


class ChangedFileError(UserError):
    """A file is no longer the one that was found when the run began."""


def check_unchanged(file: TextFile) -> None:
    """Raises ChangedFileError if a file with a version was replaced or removed since it was found."""
    if not file.version:
        return
    fs, path = filesystem(file.url)
    # A cached listing would describe the old file.
    fs.invalidate_cache(path)
    try:
        unchanged = _facts(fs, path)[:2] == (file.size, file.version)
    except FileNotFoundError:
        unchanged = False
    if not unchanged:
        raise ChangedFileError(f"{file.shown}: changed since the run began; start again with a new output")


def _facts(fs: AbstractFileSystem, path: str, info: dict[str, Any] | None = None) -> tuple[int, str, str]:
    """Returns a file's size, version and checksum. Raises UserError if its storage does not know the size."""
    if isinstance(fs, LocalFileSystem):
        status = os.stat(path)
        return status.st_size, str(status.st_mtime_ns), ""
    # The listings of some servers lack the size.
    info = info if info and info.get("size") is not None else fs.info(path)
    if info.get("size") is None:
        raise UserError(
            f"{without_secrets(fs.unstrip_protocol(path))}: its server does not report its size; download the file"
        )
    known = [_plain(info[key]) for key in _VERSIONS if info.get(key)]
    checksums = [f"{key} {info[key]}" for key in _CHECKSUMS if info.get(key)]
    return info["size"], known[0] if known else "", checksums[0] if checksums else ""


def _plain(version: Any) -> str:
    """A version as text; times become timestamps, because filesystems write them differently in listings."""
    return str(version.timestamp() if isinstance(version, datetime) else version)


def _matches(fs: AbstractFileSystem, path: str) -> tuple[str, dict[str, dict[str, Any] | None]]:
    """Returns the folder that a pattern names, and its matches: paths of files, with what a listing says about each."""
    is_local = isinstance(fs, LocalFileSystem)
    if glob.has_magic(path) and not fs.exists(path):
        base, rest = _without_magic(path, is_local)
        entries = fs.glob(join(glob.escape(base), rest) if base else rest, detail=True)
        # Not fs.isfile, which is also False if the request fails.
        infos = {match: info for match, info in entries.items() if info["type"] == "file" or os.path.isfile(match)}
    else:
        base = path if fs.isdir(path) else posixpath.dirname(path)
        infos = dict.fromkeys(_walk(path)) if is_local and base == path else fs.find(path, detail=True)
    shown = [match for match in infos if match == path or not _is_hidden(posixpath.relpath(match, base))]
    return base, {match: infos[match] for match in shown}


def _without_magic(path: str, is_local: bool) -> tuple[str, str]:
    """Splits a glob into the folder that it starts from and the rest. An existing local folder is never a glob."""
    base = posixpath.dirname(path)
    while glob.has_magic(base) and not (is_local and os.path.isdir(base)):
        base = posixpath.dirname(base)
    return base, path[len(base) :].lstrip("/")


def _walk(folder: str) -> list[str]:
    """All files below a local folder. Follows links, but visits every real folder once, first under its real name."""
    files: list[str] = []
    folders: list[str] = [folder]
    links: list[str] = []
    visited: set[str] = set()
    while folders or links:
        current = folders.pop() if folders else links.pop(0)
        if (real := os.path.realpath(current)) in visited:
            continue
        visited.add(real)
        for entry in sorted(os.scandir(current), key=lambda entry: entry.name):
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(f"{current.rstrip('/')}/{entry.name}")
            elif entry.is_file():
                files.append(f"{current.rstrip('/')}/{entry.name}")
    # The real name of a file comes before links to it.
    return sorted(files, key=lambda file: (os.path.islink(file), file))


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
