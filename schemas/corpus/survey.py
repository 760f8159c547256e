"""What has to be known of a whole file before a run: whether it can be read, what it holds, how many records."""

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
    """What was learnt of a file.

    Attributes:
      fingerprint: of its content: the checksum that its storage keeps, or else its sha256.
      counts: records of each range that was asked for; empty where they were not counted.
    """

    fingerprint: str
    counts: list[int]


def is_local(file: TextFile) -> bool:
    """Whether nobody but the reader can say what the file holds: other storages keep checksums."""
    return isinstance(filesystem(file.url)[0], LocalFileSystem)


def survey_file(file: TextFile, parts: Sequence[TextRange]) -> Survey:
    """Reads a whole file, in bounded memory.

    Args:
      parts: ranges of which the records are counted: none, or such that they lie one after the other and cover the file.

    Raises:
      UserError: as in `schemas.corpus.records.read_records`.
    """
    check_beginning(file)
    digest = hashlib.sha256()
    # Read once, where what is counted is what is stored.
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
