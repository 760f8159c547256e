"""Plain text, read as the pipeline reads it: the records of one language."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from schemas.corpus.config import TextConfig
from schemas.corpus.files import find_files
from schemas.corpus.records import Decompressor, TextRange, plan_file, read_records
from schemas.errors import UserError

# What is planned at a time. Records are read one by one.
_RANGE_BYTES = 2**22


@dataclass(frozen=True)
class LanguageText:
    """The text of one language: at least one record.

    Attributes:
      parts: ranges of its files, in order.
      records: how many are read, evenly spread over the `total` that there are.
      sha256: over the content that is read and the choice of records.
    """

    parts: list[TextRange]
    records: int
    total: int
    sha256: str

    def __iter__(self) -> Iterator[str]:
        """The records in order, without those that are empty or cannot be read, one in memory at a time."""
        decompressor = Decompressor()
        number = 0
        for part in self.parts:
            for record in read_records(part, decompressor=decompressor):
                # The records that the pipeline reads with the same `max_records`.
                is_read = (number + 1) * self.records // self.total > number * self.records // self.total
                number += 1
                if is_read and not record.fault:
                    yield record.text


def open_text(language: str, config: TextConfig) -> LanguageText:
    """Finds and checks the files of a language; reads each once, in bounded memory.

    Raises:
      UserError: no file matches, a file is not what its name says, or there is no record to read.
    """
    files = find_files(language, config.files, config.field)
    with ThreadPoolExecutor() as pool:
        plans = [plan_file(file, _RANGE_BYTES, pool) for file in files]
    parts = [part for plan in plans for part in plan.ranges]
    total = sum(part.records for part in parts)
    records = min(config.max_records or total, total)
    content = [*(plan.sha256 for plan in plans), config.field, str(records)]
    text = LanguageText(parts, records, total, hashlib.sha256("\n".join(content).encode()).hexdigest())
    if next(iter(text), None) is None:
        raise UserError(f"text.{language}: its files hold no text to read; give files with a line of text at least")
    return text
