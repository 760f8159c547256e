"""What is read at a time: a range of a file, and the records that it gives."""

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
# Bytes that are read at a time.
BLOCK = 2**22


@dataclass(frozen=True)
class TextRange:
    """The records of a file that start in [start, end).

    These are bytes of the file as it is stored. Of a compressed file there is only one range, all of it. In a Parquet file the
    rows are taken to lie evenly over the bytes.
    """

    file: TextFile
    start: int
    end: int

    @classmethod
    def whole(cls, file: TextFile) -> "TextRange":
        """All of a file."""
        return cls(file, 0, file.size)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.end - self.start


class Record(NamedTuple):
    """One record of the file `source`: its text, or the reason why it has none."""

    source: str
    number: int
    text: str
    fault: str = ""


@contextmanager
def readable(file: TextFile) -> Iterator[None]:
    """Turns what goes wrong in reading a file into a UserError about it: a ChangedFileError where it was replaced meanwhile."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not (isinstance(error, OSError | pa.ArrowException) or is_out_of_reach(error)):
            raise
        said = without_secrets(first_line(error))
        # What is not there may come back with its disk.
        if not isinstance(error, FileNotFoundError):
            with suppress(OSError):
                check_unchanged(file)
        raise UserError(f"{file.shown}: cannot be read ({said})") from None
