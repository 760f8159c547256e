"""Reading text: the records of a range of a file, in bounded memory.

A *record* is a line of text, the text of one JSON line, or one value of a Parquet column. Its number is where it starts: its
byte in the (decompressed) file, or its row in a Parquet file. It belongs to the range in which it starts. So ranges can be
cut anywhere without looking at the text, every record is in one of them, and its number does not depend on how they are cut.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from schemas.corpus.config import MAX_RECORD_BYTES
from schemas.corpus.files import TextFile, check_unchanged
from schemas.corpus.lines import beginning, blocks_with_lines, decode, from_json, lines_of, range_blocks
from schemas.corpus.parquet import rows_of, values_of
from schemas.corpus.ranges import EMPTY, TOO_LONG, Record, TextRange, readable

# Bytes of a file whose beginning is looked at, and of one that has to be unpacked.
_LOOKED_AT, _UNPACKED = 2**14, 2**16


def read_records(part: TextRange, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Record]:
    """The records of a range, in order; a record that cannot be used has its fault.

    A line of more than `max_record_bytes` is never held in memory as a whole.

    Raises:
      UserError: the file is truncated, not what its name says, not UTF-8, has no such column, or is not the one that was
        found. The last is only noticed after the last record.
    """
    file = part.file
    with readable(file):
        if file.is_parquet:
            values = values_of(part, max_record_bytes)
        else:
            parse = partial(from_json, field=file.field) if file.is_json_lines else decode
            lines = lines_of(blocks_with_lines(part), part, max_record_bytes)
            values = ((start, *(("", TOO_LONG) if line is None else parse(line))) for start, line in lines)
        for number, text, fault in values:
            yield Record(file.source, number, text, fault or ("" if text and not text.isspace() else EMPTY))
        check_unchanged(file)


def count_records(parts: Iterable[TextRange], look: Callable[[bytes], object] = lambda block: None) -> Iterator[int]:
    """Counts the records of ranges that lie one after the other in a file, from its beginning.

    Reads their lines without making records of them; of a Parquet file only the footer. UserError as in `read_records`.

    Args:
      look: called with the content of lines, block after block.
    """
    # The byte before the next range: the first line of a file starts as after the end of another.
    last = b"\n"
    for part in parts:
        with readable(part.file):
            if part.file.is_parquet:
                first, end, _ = rows_of(part)
                yield end - first
                continue
            count = 0
            for block in range_blocks(part):
                count += (last == b"\n") + block.count(b"\n", 0, len(block) - 1)
                last = block[-1:]
                look(block)
            yield count


def check_beginning(file: TextFile) -> None:
    """What can be told of a file by its first 16 KiB (64 KiB where it is compressed) or its footer; no more is read.

    UserError as in `read_records`.
    """
    with readable(file):
        if file.is_parquet:
            rows_of(TextRange.whole(file))
        elif file.size:
            next(beginning(file, _UNPACKED if file.codec else _LOOKED_AT), None)


def are_taken(first: int, records: int, count: int, total: int) -> np.ndarray:
    """bool [records]: which of the records with the numbers `first` and following are taken, if `count` of `total` are.

    They are evenly spread: the record n is taken where floor((n + 1) count / total) > floor(n count / total).
    """
    # What is left of the first product is smaller than `total`, so that a few thousand records more do not overflow.
    ends = (first * count % total + np.arange(records + 1) * count) // total
    return ends[1:] > ends[:-1]
