"""Finding the text: files, folders, globs and URLs, and what each file's name says of its format."""

import glob
import os
import posixpath
import re
from dataclasses import dataclass

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UserError
from schemas.secrets import without_query_values, without_secrets
from schemas.storage import filesystem, join

# The suffix of a compressed file, and Arrow's name for the codec.
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class TextFile:
    """One file of one language.

    Attributes:
      url: where it is.
      source: its name in example ids, the path below the folder that the pattern names,
        so that moving the corpus keeps the ids.
      field: where JSON lines and Parquet files hold the text.
    """

    url: str
    source: str
    field: str = "text"

    @property
    def codec(self) -> str | None:
        """How it is compressed, in Arrow's words; None where it is not."""
        return CODECS.get(posixpath.splitext(self._name)[1])

    @property
    def is_parquet(self) -> bool:
        """Whether its records are the rows of a Parquet file."""
        return self._name.endswith(".parquet")

    @property
    def is_json_lines(self) -> bool:
        """Whether its lines are JSON objects, compressed or not."""
        return self._name.removesuffix(posixpath.splitext(self._name)[1] if self.codec else "").endswith(_JSON_LINES)

    @property
    def shown(self) -> str:
        """`url` as messages give it, without secrets."""
        return without_secrets(self.url)

    @property
    def _name(self) -> str:
        """Where endings are looked for: the URL in lower case, without its query."""
        return (re.sub(r"\?[^/?]*=.*", "", self.url) if "://" in self.url else self.url).lower()


def find_files(language: str, patterns: list[str], field: str = "text") -> list[TextFile]:
    """The files of one language, sorted by source. A folder stands for all files below it.

    A hidden file, or one in a hidden folder, is found only where the pattern is its name.

    Raises:
      UserError: a pattern matches nothing, or two files would share a source name.
    """
    files: dict[str, TextFile] = {}
    seen: set[str] = set()
    for pattern in patterns:
        fs, path = filesystem(pattern)
        is_local = isinstance(fs, LocalFileSystem)
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
            file = TextFile(url, source if is_local else without_query_values(source), field)
            if file.source in files:
                raise UserError(
                    f"text.{language}: {files[file.source].shown} and {file.shown} are both called {file.source!r} "
                    "in example ids; rename one, or put both below one pattern"
                )
            files[file.source] = file
    return [files[source] for source in sorted(files)]


def _matches(fs: AbstractFileSystem, path: str) -> tuple[str, list[str]]:
    """The folder that a pattern names, and the paths of the files that the pattern matches."""
    is_local = isinstance(fs, LocalFileSystem)
    if glob.has_magic(path) and not fs.exists(path):
        base, rest = _without_magic(path, is_local)
        infos = fs.glob(join(glob.escape(base), rest) if base else rest, detail=True)
        # Not fs.isfile, which is also False where it could not ask.
        paths = [match for match, info in infos.items() if info["type"] == "file" or os.path.isfile(match)]
    else:
        base = path if fs.isdir(path) else posixpath.dirname(path)
        paths = _walk(path) if is_local and base == path else fs.find(path)
    return base, [match for match in paths if match == path or not _is_hidden(posixpath.relpath(match, base))]


def _without_magic(path: str, is_local: bool) -> tuple[str, str]:
    """A glob as the folder that it starts from, and the rest. A local folder that exists is no glob, whatever its name."""
    base = posixpath.dirname(path)
    while glob.has_magic(base) and not (is_local and os.path.isdir(base)):
        base = posixpath.dirname(base)
    return base, path[len(base) :].lstrip("/")


def _walk(folder: str) -> list[str]:
    """All files below a local folder. Links are followed, but every real folder is visited once, first under its real name."""
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
