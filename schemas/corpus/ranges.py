"""The unit of reading: a range of a file, and the records in it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from schemas.corpus.files import TextFile, check_unchanged
from schemas.errors import UserError, first_line
from schemas.secrets import without_secrets
from schemas.storage import is_out_of_reach

INVALID_UTF8, INVALID_JSON, EMPTY, TOO_LONG = "invalid UTF-8", "invalid JSON", "empty", "too long"
# Bytes read at a time.
BLOCK = 2**22


@dataclass(frozen=True)
class TextRange:
    """The records of a file that start in [start, end).

    `start` and `end` are bytes of the stored file. A compressed file has only one range, the whole file. In a Parquet
    file, rows count as evenly spread over the bytes.
    """

    file: TextFile
    start: int
    end: int

    @classmethod
    def whole(cls, file: TextFile) -> "TextRange":
        """The range of a whole file."""
        return cls(file, 0, file.size)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.end - self.start


class Record(NamedTuple):
    """One record of the file `source`: its text, or the reason why it is unusable."""

    source: str
    number: int
    text: str
    fault: str = ""


@contextmanager
def readable(file: TextFile) -> Iterator[None]:
    """Turns errors in reading a file into a UserError about it, or a ChangedFileError if it was replaced."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not (isinstance(error, OSError | pa.ArrowException) or is_out_of_reach(error)):
            raise
        said = without_secrets(first_line(error))
        # A missing file does not count as changed: it may come back with its disk.
        if not isinstance(error, FileNotFoundError):
            with suppress(OSError):
                check_unchanged(file)
        raise UserError(f"{file.shown}: cannot be read ({said})") from None
