"""Samples a small, evenly spread part of a language's text."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline.text.corpus import Corpus
from schemas.corpus.parquet import rows_of
from schemas.corpus.ranges import Record, TextRange
from schemas.corpus.records import read_records

_PLACES = 64
# Places read in parallel: most of the time is spent waiting for the storage.
_AT_A_TIME = 16
# A place is widened up to this many times its part of the sample.
_MOST_WINDOW = 1024
# Records without text fill a place only if there are this many: a few long ones do not show the share of rejects.
_FEWEST_FAULTS = 8
# Assumed compression ratio: the real one is unknown before the text is unpacked.
_USUAL_RATIO = 3


@dataclass(frozen=True)
class Sample:
    """Records, some of them cut.

    Attributes:
      bytes: bytes of their text.
      whole_bytes: bytes of their text before it was cut.
      total: the number of records in the whole text, counted or else estimated.
    """

    records: list[Record]
    bytes: int
    whole_bytes: int
    total: int


def sample_records(corpus: Corpus, size: int, max_record_bytes: int, window: int = 2) -> Sample:
    """Returns records from up to 64 evenly spread places, about `size` bytes of text in all.

    At each place it reads only `window` times the place's part of the sample, and more if long records leave the sample
    less than half full. Compressed and Parquet files are read only from their beginnings. A record may be a whole book,
    so it is cut where the sample is full. A record without text counts by its bytes, so that reading stops in a file
    whose records have no text.
    """
    share = -(-size // _PLACES)
    edges = np.unique(np.linspace(0, corpus.size, _PLACES + 1).round().astype(np.int64)).tolist()
    # A text that is not larger than the sample is one place.
    edges = edges if corpus.size > size else [0, corpus.size]
    share = share if corpus.size > size else size
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        read_place = partial(
            _at, corpus, share=share, places=len(edges) - 1, window=window, max_record_bytes=max_record_bytes
        )
        places = list(pool.map(read_place, edges[:-1], edges[1:]))
    sampled = [record for place in places for record in place.records]
    read = sum(place.read for place in places)
    taken = sum(len(record.text.encode()) for record in sampled)
    full = taken + sum(place.faults for place in places)
    widest = max(high - low for low, high in pairwise(edges))
    if 2 * full < min(size, corpus.size) and window * share < widest and window < _MOST_WINDOW:
        return sample_records(corpus, size, max_record_bytes, 8 * window)
    total = corpus.records if corpus.records is not None else round(len(sampled) * corpus.size / max(1, read))
    return Sample(sampled, taken, sum(place.whole_bytes for place in places), total)


class _Place(NamedTuple):
    """The records of one place, their bytes before they were cut, the bytes of files that they were found in, and the
    bytes that records without text count for."""

    records: list[Record]
    whole_bytes: int
    read: int
    faults: int


def _at(corpus: Corpus, low: int, high: int, share: int, places: int, window: int, max_record_bytes: int) -> _Place:
    sampled: list[Record] = []
    whole = read = taken = faults = 0
    for part in corpus.interval(low, high):
        if part.file.codec or part.file.is_parquet:
            # This file stands for all places that it overlaps.
            most = share * max(1, round(part.file.size * places / corpus.size))
        else:
            most, part = share, replace(part, end=min(part.end, part.start + window * share))
        first = last = None
        for record in read_records(part, max_record_bytes):
            # Counts from the first record, because the bytes before it are the end of another one.
            first = record.number if first is None else first
            if last and last.fault and not part.file.is_parquet:
                # The start of this record gives the size of the last one, of which one byte was already counted.
                size = min(record.number - last.number, share // _FEWEST_FAULTS) - 1
                taken, faults = taken + max(0, size), faults + max(0, size)
            if taken >= most:
                read += _bytes_before(part, record.number) - _bytes_before(part, first)
                break
            text = record.text[: max(1, most - taken)]
            last = record._replace(text=text)
            sampled.append(last)
            whole += len(record.text.encode())
            taken += len(text.encode()) + 1
        else:
            read += part.size
        if taken >= most:
            break
    return _Place(sampled, whole, read, faults)


def _bytes_before(part: TextRange, number: int) -> int:
    """Estimates how many bytes of a range come before the record with this number."""
    if part.file.is_parquet:
        first, end, _ = rows_of(part)
        return round((number - first) / max(1, end - first) * part.size)
    return number // _USUAL_RATIO if part.file.codec else number - part.start
