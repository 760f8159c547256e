"""Estimates how much text teachers will read, from file sizes and samples."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from schemas.corpus.config import TextConfig
from schemas.corpus.files import TextFile, find_files
from schemas.corpus.lines import unpacked_share
from schemas.corpus.parquet import rows_of, text_bytes
from schemas.corpus.ranges import TextRange, readable
from schemas.corpus.records import read_records
from schemas.errors import UserError

# A sample has at most this many files of one format, evenly spread, and about this many bytes of text from the start of each.
_FILES, _BYTES = 16, 2**18


class _Size(NamedTuple):
    """Stored bytes of files, and the records and bytes of text in them; the bytes include line ends."""

    stored: float
    records: float
    text: float


def estimate_bytes(corpora: Mapping[str, TextConfig]) -> dict[str, int]:
    """Returns about how many bytes of text each language has, reading only small samples.

    For plain text this is the size of the files. For other formats, and with `max_records`, a sample gives the bytes of text
    and the records per stored byte.

    Raises:
      UserError: no file matches, or the content of a sampled file does not match its name.
    """
    try:
        return {language: _estimate(language, corpus) for language, corpus in corpora.items()}
    except UserError as error:
        raise UserError(f"comparison.corpora: {error}") from None


def _estimate(language: str, corpus: TextConfig) -> int:
    formats: dict[tuple, list[TextFile]] = defaultdict(list)
    for file in find_files(language, corpus.files, corpus.field):
        formats[file.codec, file.is_json_lines, file.is_parquet].append(file)
    text = records = 0.0
    for format_, files in formats.items():
        stored = sum(file.size for file in files)
        if not any(format_) and corpus.max_records is None:
            text += stored
            continue
        sample = _sample(files)
        text += stored * sample.text / max(1, sample.stored)
        records += stored * sample.records / max(1, sample.stored)
    return round(text * min(1, corpus.max_records / max(1, records)) if corpus.max_records else text)


def _sample(files: Sequence[TextFile]) -> _Size:
    """Measures the beginnings of some of the files, which all have one format."""
    count = min(_FILES, len(files))
    chosen = [files[number * len(files) // count] for number in range(count)]
    with ThreadPoolExecutor(_FILES) as pool:
        return _Size(*map(sum, zip(*pool.map(_beginning, chosen), strict=True)))


def _beginning(file: TextFile) -> _Size:
    whole = TextRange.whole(file)
    if file.is_parquet:
        with readable(file):
            _, rows, metadata = rows_of(whole)
            return _Size(file.size, rows, text_bytes(metadata, file.field))
    unpacked = unpacked_share(file) if file.codec else 1
    records = text = 0
    for record in read_records(whole):
        if text >= _BYTES:
            return _Size(record.number / unpacked, records, text)
        records += 1
        text += len(record.text.encode()) + 1
    return _Size(file.size, records, text)
