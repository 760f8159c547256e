"""The text records of one language, read as the pipeline reads them."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from schemas.corpus.config import TextConfig
from schemas.corpus.files import TextFile, find_files
from schemas.corpus.ranges import TextRange
from schemas.corpus.records import are_taken, read_records
from schemas.corpus.survey import survey_file
from schemas.errors import UserError

# Records in memory at a time.
_RECORDS = 64


@dataclass(frozen=True)
class LanguageText:
    """The text of one language: at least one record.

    Attributes:
      files: in order.
      records: how many are read, evenly spread over all `total` records.
      sha256: over the fingerprints of the files and the choice of records.
    """

    files: list[TextFile]
    records: int
    total: int
    sha256: str

    def __iter__(self) -> Iterator[str]:
        """Yields the records in order, a few in memory at a time. Skips those that are empty or cannot be read."""
        number = 0
        for file in self.files:
            records = read_records(TextRange.whole(file))
            while batch := list(islice(records, _RECORDS)):
                taken = are_taken(number, len(batch), self.records, self.total)
                yield from (
                    record.text for record, is_taken in zip(batch, taken, strict=True) if is_taken and not record.fault
                )
                number += len(batch)


def open_text(language: str, config: TextConfig) -> LanguageText:
    """Finds and checks the files of a language; reads each once, in bounded memory.

    Raises:
      UserError: no file matches, the content of a file does not match its name, or there is no record to read.
    """
    files = find_files(language, config.files, config.field)
    with ThreadPoolExecutor() as pool:
        surveys = list(pool.map(lambda file: survey_file(file, [TextRange.whole(file)]), files))
    total = sum(survey.counts[0] for survey in surveys)
    records = min(config.max_records or total, total)
    content = [*(survey.fingerprint for survey in surveys), config.field, str(records)]
    text = LanguageText(files, records, total, hashlib.sha256("\n".join(content).encode()).hexdigest())
    if next(iter(text), None) is None:
        raise UserError(f"text.{language}: its files have no text to read; give files with at least one line of text")
    return text
