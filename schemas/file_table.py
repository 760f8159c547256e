"""The Parquet files of a folder, as columns because a large run has hundreds of thousands of files.

`_files.parquet`, beside the manifest, lists them. Older manifests list the files inline.

Legend: F files, G row groups of all files, in order.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import GetCoreSchemaHandler, PlainSerializer, ValidatorFunctionWrapHandler, WrapValidator

from schemas.errors import first_line
from schemas.names import Name, is_name
from schemas.ragged import flatten
from schemas.record import Count, Record

FILES_FILE = "_files.parquet"
FILE_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("row_groups", pa.list_(pa.field("element", pa.int64(), nullable=False)), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("masked_positions", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("footer_sha256", pa.string(), nullable=False),
    ]
)
_NUMBER = r"/([0-9]{1,18})\.parquet$"
_NO_NAMES = pa.array([], pa.string()).dictionary_encode()


class FileRecord(Record):
    """One Parquet file.

    `path` is relative to the folder: `language/teacher/NUMBER.parquet`. `row_groups` has the number of rows of each row
    group. `size` is in bytes. `footer_sha256` covers the end of the file, from the footer on.
    """

    path: str
    language: Name
    teacher: Name
    rows: Count
    row_groups: list[Count]
    tokens: Count
    masked_positions: Count
    size: Count
    footer_sha256: str


class FileTable(Sequence[FileRecord]):
    """The files of a folder, in the manifest's order; their columns are those of `FileRecord`.

    Args:
      table: has the columns of `FILE_SCHEMA`.
      is_inline: whether the manifest lists the files inline.

    Raises:
      ValueError: names the file whose record contradicts itself.
    """

    def __init__(self, table: pa.Table, is_inline: bool = False):
        self._table = table
        self.is_inline = is_inline
        self._check()

    @classmethod
    def of(cls, records: Iterable[FileRecord], is_inline: bool = False) -> Self:
        """Returns a table of these records."""
        rows = [record.model_dump() for record in records]
        return cls(pa.Table.from_pylist(rows, FILE_SCHEMA), is_inline)

    @classmethod
    def joined(cls, tables: Iterable["FileTable"]) -> Self:
        """Concatenates tables. Raises ValueError, which names the file, if a file is in two of them."""
        # A single chunk, because the bytes of the written file depend on the chunks.
        return cls(pa.concat_tables([FILE_SCHEMA.empty_table(), *(files._table for files in tables)]).combine_chunks())

    @classmethod
    def from_parquet(cls, content: bytes) -> Self:
        """Returns the table in the content of `_files.parquet`. Raises ValueError for anything else."""
        files = cls(_read_table(content))
        # Keep the original bytes: another version of Arrow may write the table differently.
        files.content = content
        return files

    @cached_property
    def content(self) -> bytes:
        """The content of `_files.parquet`."""
        stream = io.BytesIO()
        # Small row groups, so that reading takes little more memory than the table.
        pq.write_table(
            self._table, stream, row_group_size=2**14, compression="zstd", use_dictionary=["language", "teacher"]
        )
        return stream.getvalue()

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the content of `_files.parquet`."""
        return hashlib.sha256(self.content).hexdigest()

    def __reduce__(self) -> tuple[Callable[[bytes, bool], "FileTable"], tuple[bytes, bool]]:
        """Pickles the table as `_files.parquet`, a fifth of its size, because processes send it to each other."""
        return type(self)._received, (self.content, self.is_inline)

    @classmethod
    def _received(cls, content: bytes, is_inline: bool) -> Self:
        """Returns the table that another process sent. That process has already checked it."""
        files = cls.__new__(cls)
        files._table, files.is_inline, files.content = _read_table(content), is_inline, content
        return files

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTable) and self._table.equals(other._table)

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> FileRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[FileRecord]: ...
    def __getitem__(self, index: int | slice) -> FileRecord | list[FileRecord]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        (row,) = self._table.slice(range(len(self))[index], 1).to_pylist()
        return FileRecord.model_construct(**row)

    def __iter__(self) -> Iterator[FileRecord]:
        for batch in self._table.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                yield FileRecord.model_construct(**row)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yields (path, bytes) of each file."""
        for batch in self._table.select(["path", "size"]).to_batches(max_chunksize=4096):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def names(self, column: str) -> tuple[list[str], np.ndarray]:
        """The distinct values of `language` or `teacher`, and the index of each file's value, int32 [F]."""
        encoded = pa.chunked_array(self._table[column].dictionary_encode().chunks or [_NO_NAMES]).unify_dictionaries()
        indices = [chunk.indices.to_numpy() for chunk in encoded.chunks]
        return encoded.chunk(0).dictionary.to_pylist(), np.concatenate(indices)

    def counts(self, column: str) -> np.ndarray:
        """A numeric column: int64 [F]."""
        return self._table[column].to_numpy()

    @cached_property
    def row_groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of each row group, int64 [G], and the number of row groups of each file, int64 [F]."""
        rows_G, _, groups_F = flatten(self._table["row_groups"])
        return rows_G, groups_F

    def rows_by_pair(self) -> dict[tuple[str, str], int]:
        """Rows of each language and teacher, in order of first appearance."""
        summed = self._table.select(["language", "teacher", "rows"]).group_by(
            ["language", "teacher"], use_threads=False
        )
        columns = summed.aggregate([("rows", "sum")]).to_pydict()
        return dict(zip(zip(columns["language"], columns["teacher"], strict=True), columns["rows_sum"], strict=True))

    def _check(self) -> None:
        if null := [name for name in FILE_SCHEMA.names if self._table[name].null_count]:
            raise ValueError(f"files: {null[0]} is null")
        for column in ("language", "teacher"):
            if wrong := [name for name in self.names(column)[0] if not is_name(name)]:
                raise ValueError(f"files: {wrong[0][:100]!r} cannot be the name of a {column}")
        rows_G, groups_F = self.row_groups
        rows, tokens, masked, sizes = (self.counts(name) for name in ("rows", "tokens", "masked_positions", "size"))
        ends_F = np.cumsum(groups_F)
        sums_G = np.append(0, np.cumsum(rows_G))
        folder = pc.binary_join_element_wise(self._table["language"], self._table["teacher"], "/")
        is_path = pc.and_(
            pc.match_substring_regex(self._table["path"], _NUMBER),
            pc.equal(pc.replace_substring_regex(self._table["path"], _NUMBER, ""), folder),
        ).to_numpy()
        is_negative = np.minimum.reduce([rows, tokens, masked, sizes]) < 0
        is_negative[np.searchsorted(ends_F, np.flatnonzero(rows_G < 0), "right")] = True
        for is_wrong, what in (
            (~is_path, "is not language/teacher/NUMBER.parquet"),
            (is_negative, "a count is negative"),
            (sums_G[ends_F] - sums_G[ends_F - groups_F] != rows, "rows is not the sum of its row groups"),
            ((masked > tokens) | (rows > tokens), "more rows or masked positions than tokens"),
        ):
            if is_wrong.any():
                raise ValueError(f"files: {self[int(is_wrong.argmax())].path}: {what}")
        number_F = pc.cast(
            pc.replace_substring_regex(self._table["path"], f"^.*{_NUMBER}", r"\1"), pa.int64()
        ).to_numpy()
        of_file = [number_F, *(self.names(column)[1] for column in ("language", "teacher"))]
        order_F = np.lexsort(of_file)
        sorted_3F = np.stack(of_file)[:, order_F]
        is_twice = (sorted_3F[:, 1:] == sorted_3F[:, :-1]).all(0)
        if is_twice.any():
            raise ValueError(f"files: {self[int(order_F[:-1][is_twice].min())].path}: listed twice")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """The schema of the manifest's field: a `FileTable`, or a list of files that the manifest has inline."""

        def validate(value: Any, records: ValidatorFunctionWrapHandler) -> "FileTable":
            return value if isinstance(value, FileTable) else cls.of(records(value), is_inline=True)

        def dump(table: "FileTable") -> list[dict[str, Any]]:
            return [record.model_dump() for record in table]

        return handler.generate_schema(Annotated[list[FileRecord], WrapValidator(validate), PlainSerializer(dump)])


def _read_table(content: bytes) -> pa.Table:
    """Returns the table of a `_files.parquet`. Raises ValueError for anything else."""
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        groups = [file.read_row_group(group, use_threads=False) for group in range(file.num_row_groups)]
        table = pa.concat_tables([file.schema_arrow.empty_table(), *groups])
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"not a complete Parquet file ({first_line(error)})") from None
    if not table.schema.equals(FILE_SCHEMA):
        raise ValueError("does not have the columns of a list of files")
    return table
