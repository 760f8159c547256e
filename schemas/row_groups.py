"""Reads row groups of predictions; training, inspection and trimming all read them here.

Files are not trusted: the footer must be the one that the manifest names, every page must have the right checksum, and
the rows must pass `schemas.validation`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UserError, first_line
from schemas.footers import Footer, load_footer
from schemas.predictions import PredictionFile
from schemas.rows import check_footer, row_schema
from schemas.storage import filesystem, reaching
from schemas.validation import Expected, find_fault

_UNREADABLE = (OSError, ValueError, LookupError, OverflowError, pa.ArrowException)


class RowGroupReader:
    """Reads row groups of predictions, in any order and from any thread, and checks them.

    Args:
      columns: which to read; all by default.
      footers: how many footers it caches, so that the next row group of such a file needs only one request.
    """

    def __init__(self, columns: list[str] | None = None, footers: int = 4096):
        self._columns = columns
        self._footer = lru_cache(maxsize=footers)(load_footer)

    def read(self, file: PredictionFile, group: int) -> pa.Table:
        """Reads and checks one row group.

        Raises:
          UserError: the file is truncated, damaged, foreign or from another run, or the storage does not answer. Names
            the file, the row group, and the example if one row is at fault.
        """
        where = f"{file.url}: row group {group}"
        rows, footer = self._read(where, file, group, self._columns)
        if fault := find_fault(rows, _expected(file, footer, group)):
            example = "" if fault.row is None else f"example {self._example_id(where, file, group, fault.row)}: "
            raise UserError(f"{where}: {example}{fault.text}; remove the file and rerun the pipeline")
        return rows

    def _read(self, where: str, file: PredictionFile, group: int, columns: list[str] | None) -> tuple[pa.Table, Footer]:
        try:
            with reaching(where):
                footer = self._footer(file.url)
                _check_file(where, file, footer, group)
                with _open(file.url) as stream:
                    # Requesting all columns at once saves requests; for a local file it would only cost a copy.
                    with pq.ParquetFile(
                        stream,
                        metadata=footer.metadata,
                        pre_buffer=not isinstance(stream, str),
                        page_checksum_verification=True,
                    ) as parquet:
                        # Callers read several row groups at once, so one thread for each is enough.
                        return parquet.read_row_group(group, columns=columns, use_threads=False), footer
        except FileNotFoundError:
            raise UserError(f"{where}: the file is missing; rerun the pipeline") from None
        except _UNREADABLE as error:
            raise UserError(
                f"{where} cannot be read ({type(error).__name__}: {first_line(error)}); "
                "remove the file and rerun the pipeline"
            ) from None

    def _example_id(self, where: str, file: PredictionFile, group: int, row: int) -> str:
        try:
            return self._read(where, file, group, ["example_id"])[0]["example_id"][row].as_py()
        except (UserError, ValueError):
            return f"in row {row}"


def read_row_groups(file: PredictionFile, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yields all row groups of a file in order. Takes the columns and raises the errors of `RowGroupReader`."""
    reader = RowGroupReader(columns)
    for group in range(len(file.record.row_groups)):
        yield reader.read(file, group)


def _check_file(where: str, file: PredictionFile, footer: Footer, group: int) -> None:
    """Raises UserError if a file's footer is not the one in the manifest."""
    record, manifest = file.record, file.manifest
    check_footer(
        where,
        footer.metadata.metadata,
        manifest.top_k,
        manifest.vocabulary.sha256,
        manifest.run_sha256,
        tail_samples=manifest.tail_samples,
    )
    if footer.row_groups != record.row_groups:
        raise UserError(
            f"{where}: the file has row groups of {footer.row_groups} rows, but the manifest says "
            f"{record.row_groups}; this file is from another run: remove it and rerun the pipeline"
        )
    if not footer.schema.equals(row_schema(manifest.tail_samples)):
        raise UserError(f"{where}: does not have the columns of predictions; remove the file and rerun the pipeline")
    counts = (sum(footer.tokens), sum(footer.masked_positions), len(footer.masked_positions))
    values_of = {name: footer.values_of(group, name) for name in ("language", "teacher")}
    if (
        (footer.size, footer.sha256) != (record.size, record.footer_sha256)
        or counts != (record.tokens, record.masked_positions, len(record.row_groups))
        or any(values != {getattr(record, name)} for name, values in values_of.items() if record.row_groups[group])
    ):
        raise UserError(
            f"{where}: this is not the file that the manifest lists: it was changed or is from another run; "
            "remove it and rerun the pipeline"
        )


def _expected(file: PredictionFile, footer: Footer, group: int) -> Expected:
    record, manifest = file.record, file.manifest
    return Expected(
        record.language,
        record.teacher,
        manifest.top_k,
        manifest.tail_samples,
        manifest.vocabulary.size,
        manifest.max_length,
        manifest.trimmed,
        footer.tokens[group],
        footer.masked_positions[group],
    )


def _open(url: str) -> AbstractContextManager[Any]:
    """Opens a file for Arrow; yields the path of a local file, so that Arrow reads it without Python."""
    fs, path = filesystem(url)
    # Arrow requests all columns of a row group at once, so a cache would only fetch more, and the cache of gcsfs waits
    # forever if the file has become shorter.
    return nullcontext(path) if isinstance(fs, LocalFileSystem) else fs.open(path, "rb", cache_type="none")
