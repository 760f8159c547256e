"""Surveys a whole file before a run: whether it can be read, its fingerprint, and its number of records."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fsspec.implementations.local import LocalFileSystem

from schemas.corpus.files import TextFile, check_unchanged
from schemas.corpus.ranges import BLOCK, TextRange, readable
from schemas.corpus.records import check_beginning, count_records
from schemas.storage import filesystem


@dataclass(frozen=True)
class Survey:
    """The survey of a file.

    Attributes:
      fingerprint: of its content: the storage's checksum, or else its sha256.
      counts: records of each requested range; empty if they were not counted.
    """

    fingerprint: str
    counts: list[int]


def is_local(file: TextFile) -> bool:
    """Whether only reading the file shows its content: other storages keep checksums."""
    return isinstance(filesystem(file.url)[0], LocalFileSystem)


def survey_file(file: TextFile, parts: Sequence[TextRange]) -> Survey:
    """Reads a whole file, in bounded memory.

    Args:
      parts: ranges to count records in: none, or consecutive ranges that cover the file.

    Raises:
      UserError: like `schemas.corpus.records.read_records`.
    """
    check_beginning(file)
    digest = hashlib.sha256()
    # One read serves both purposes if the counted bytes are the stored bytes.
    is_plain = bool(parts) and not (file.codec or file.is_parquet)
    counts = list(count_records(parts, digest.update if is_plain else lambda block: None))
    fingerprint = file.checksum
    if not fingerprint:
        fingerprint = digest.hexdigest() if is_plain else _sha256(file)
    check_unchanged(file)
    return Survey(fingerprint, counts)


def _sha256(file: TextFile) -> str:
    digest = hashlib.sha256()
    fs, path = filesystem(file.url)
    with readable(file), fs.open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
