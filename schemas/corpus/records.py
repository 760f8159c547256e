"""Reads text: the records of a range of a file, in bounded memory.

A *record* is a line of text, the text of one JSON line, or one value of a Parquet column. Its number is its start: a
byte of the (decompressed) file, or a row of a Parquet file. It belongs to the range in which it starts. So ranges can
be cut anywhere without reading the text, each record is in exactly one range, and its number does not depend on the
ranges.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from schemas.corpus.config import MAX_RECORD_BYTES
from schemas.corpus.files import TextFile, check_unchanged
from schemas.corpus.lines import beginning, blocks_with_lines, decode, from_json, lines_of, range_blocks
from schemas.corpus.parquet import rows_of, values_of
from schemas.corpus.ranges import EMPTY, TOO_LONG, Record, TextRange, readable

# Bytes read to check the beginning of a file, and of a compressed file.
_LOOKED_AT, _UNPACKED = 2**14, 2**16


def read_records(part: TextRange, max_record_bytes: int = MAX_RECORD_BYTES) -> Iterator[Record]:
    """Yields the records of a range, in order; an unusable record has a fault.

    A line of more than `max_record_bytes` is never in memory as a whole.

    Raises:
      UserError: the file is truncated, not what its name says, not UTF-8, has no such column, or has changed since it
        was found. A change is only noticed after the last record.
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
    """Yields the number of records of each of some consecutive ranges, which start at the beginning of a file.

    Reads lines without parsing them, and only the footer of a Parquet file. Raises UserError like `read_records`.

    Args:
      look: called with each block of lines.
    """
    # The byte before the next range. A file begins as if after a line end.
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
    """Checks a file by reading only its first 16 KiB (64 KiB if compressed) or its footer.

    Raises UserError like `read_records`.
    """
    with readable(file):
        if file.is_parquet:
            rows_of(TextRange.whole(file))
        elif file.size:
            next(beginning(file, _UNPACKED if file.codec else _LOOKED_AT), None)


def are_taken(first: int, records: int, count: int, total: int) -> np.ndarray:
    """bool [records]: which of the records from number `first` on are taken, if `count` of `total` are.

    They are evenly spread: record n is taken if floor((n + 1) count / total) > floor(n count / total).
    """
    # The remainder of the first product is below `total`, so that adding a few thousand records does not overflow.
    ends = (first * count % total + np.arange(records + 1) * count) // total
    return ends[1:] > ends[:-1]
