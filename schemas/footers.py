"""Footers of Parquet files of predictions: row groups and their counts, without reading rows."""

import hashlib
import json
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UserError, first_line
from schemas.rows import MASKED_KEY, ROW_SCHEMA
from schemas.storage import filesystem

_READ_AT_ONCE = 2**16


class Footer:
    """The end of a Parquet file of predictions.

    Attributes:
      metadata: the parsed footer.
      size: size of the file, in bytes.
      sha256: hash of the footer as written, which is the end of the file.
    """

    def __init__(self, metadata: pq.FileMetaData, size: int, sha256: str):
        self.metadata, self.size, self.sha256 = metadata, size, sha256

    @classmethod
    def of(cls, end: bytes, size: int) -> "Footer":
        """Parses the last bytes of a file, or all of them. Raises what Arrow raises."""
        return cls(pq.read_metadata(pa.BufferReader(end)), size, hashlib.sha256(end[-_length(end) :]).hexdigest())

    @cached_property
    def row_groups(self) -> list[int]:
        """Rows of each row group."""
        return [self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups)]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.metadata.schema.to_arrow_schema()

    @cached_property
    def tokens(self) -> list[int]:
        """Tokens of each row group: the number of values in `input_ids`, because no list of tokens is empty or null."""
        column = ROW_SCHEMA.names.index("input_ids")
        return [self.metadata.row_group(group).column(column).num_values for group in range(len(self.row_groups))]

    @cached_property
    def masked_positions(self) -> list[int]:
        """Masked positions of each row group. Raises ValueError or KeyError if the footer does not have them."""
        counts = json.loads(self.metadata.metadata[MASKED_KEY.encode()])
        if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"{MASKED_KEY} is not a list of counts")
        return counts

    def values_of(self, group: int, column: str) -> set[str] | None:
        """The minimum and maximum of a string column in a row group; None if they are unknown."""
        statistics = self.metadata.row_group(group).column(ROW_SCHEMA.names.index(column)).statistics
        return {statistics.min, statistics.max} if statistics and statistics.has_min_max else None


def read_footer(url: str) -> Footer:
    """Returns the Parquet footer of `url`. Raises UserError if the file is missing, truncated or not Parquet."""
    try:
        return load_footer(url)
    except FileNotFoundError:
        raise UserError(f"{url}: the file is missing; rerun the pipeline") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(
            f"{url}: not a complete Parquet file ({first_line(error)}); remove it and rerun the pipeline"
        ) from None


def load_footer(url: str) -> Footer:
    """Like `read_footer`, but raises what the filesystem and Arrow raise."""
    fs, path = filesystem(url)
    # No cache: it would fetch more, and the cache of gcsfs waits forever if the file has become shorter.
    options = {} if isinstance(fs, LocalFileSystem) else {"cache_type": "none"}
    with fs.open(path, "rb", **options) as file:
        size = file.seek(0, 2)
        # One request is enough for most footers.
        length = min(size, _READ_AT_ONCE)
        file.seek(size - length)
        tail = file.read(length)
        needed = _length(tail)
        if length < needed <= size:
            file.seek(size - needed)
            tail = file.read(needed)
    return Footer.of(tail, size)


def _length(end: bytes) -> int:
    """Size of the footer, including the last 8 bytes: its length and a magic number."""
    return int.from_bytes(end[-8:-4], "little") + 8
