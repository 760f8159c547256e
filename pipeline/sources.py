"""Finding the text: files, folders, globs and URLs, and what each file's name says of its format."""

import glob
import posixpath
from dataclasses import dataclass

from schemas.errors import UserError
from schemas.storage import filesystem

# The suffix of a compressed file, and Arrow's name of the codec.
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class TextFile:
    """One file of one language.

    Attributes:
      url: where it lies.
      source: its name in example ids: the path below the folder that the pattern names,
        so that moving the corpus keeps the ids.
      field: where JSON lines and Parquet files hold the text.
    """

    url: str
    source: str
    field: str = "text"

    @property
    def codec(self) -> str | None:
        """How it is compressed, in Arrow's words; None where it is not."""
        return CODECS.get(posixpath.splitext(self.url)[1])

    @property
    def is_parquet(self) -> bool:
        """Whether its records are the rows of a Parquet file."""
        return self.url.endswith(".parquet")

    @property
    def is_json_lines(self) -> bool:
        """Whether its lines are JSON objects, compressed or not."""
        return self.url.removesuffix(posixpath.splitext(self.url)[1] if self.codec else "").endswith(_JSON_LINES)


def find_files(language: str, patterns: list[str], field: str = "text") -> list[TextFile]:
    """The files of one language, sorted by source. A folder stands for all files below it.

    Hidden files, and those in hidden folders, are found only by their own names.

    Raises:
      UserError: a pattern matches nothing, or two files would share a source name.
    """
    files: dict[str, TextFile] = {}
    for pattern in patterns:
        fs, path = filesystem(pattern)
        if glob.has_magic(path):
            # Not fs.isfile, which is False also where it was only unable to ask.
            found = [match for match, info in fs.glob(path, detail=True).items() if info["type"] == "file"]
        else:
            found = fs.find(path)  # A folder's files, or the file itself.
        base = path if fs.isdir(path) else posixpath.dirname(path)
        while glob.has_magic(base):
            base = posixpath.dirname(base)
        found = [match for match in found if match == path or not _is_hidden(posixpath.relpath(match, base))]
        if not found:
            raise UserError(f"text.{language}: no file matches {pattern!r}")
        for match in found:
            file = TextFile(fs.unstrip_protocol(match), posixpath.relpath(match, base), field)
            if file.source in files:
                raise UserError(
                    f"text.{language}: {files[file.source].url} and {file.url} are both called {file.source!r} "
                    "in example ids; rename one, or put both below one pattern"
                )
            files[file.source] = file
    return [files[source] for source in sorted(files)]


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
