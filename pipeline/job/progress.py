"""Progress bars over the languages' text, for any runner."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from tqdm import tqdm

from pipeline.shard.parquet import Receipt
from pipeline.shard.written import read_unit_table
from pipeline.text.units import UNITS_FOLDER, Unit
from schemas.storage import join, list_files, read_bytes

_log = logging.getLogger(__name__)

_SECONDS = 1.0
# The share of the time that the launcher may spend looking for finished units.
_MOST_LOOKING = 0.05
# More languages than this share one bar.
_MOST_BARS = 12


class UnitProgress:
    """The progress of one process in its unfinished units.

    The threads of the process write it. The bars can read it only if the workers are threads of the launcher's process.
    """

    def __init__(self) -> None:
        self._units: dict[Unit, Counter[str]] = {}
        self._shares: dict[Unit, Counter[str]] = {}

    def add(self, unit: Unit, receipt: Receipt, text_bytes: int) -> None:
        """Counts a written shard."""
        self._shares.pop(unit, None)
        self._units[unit] = self._units.get(unit, Counter()) + _counts(receipt, text_bytes)

    def note(self, unit: Unit, text_bytes: int, done: int, tokens: int, rows: int) -> None:
        """Records the progress in a shard: `done` of `tokens` tokens; `rows` is the total number of rows."""
        share = done / tokens
        self._shares[unit] = Counter(bytes=int(text_bytes * share), rows=int(rows * share), tokens=done)

    def forget(self, unit: Unit) -> None:
        """Removes a unit that is finished or given up."""
        self._units.pop(unit, None)
        self._shares.pop(unit, None)

    def counts(self) -> list[tuple[Unit, Counter[str]]]:
        """Returns what is done of each unit: bytes of text, rows, tokens and rejected records."""
        units = self._units.keys() | self._shares.keys()
        return [(unit, self._units.get(unit, Counter()) + self._shares.get(unit, Counter())) for unit in list(units)]


def _counts(receipt: Receipt, text_bytes: int) -> Counter[str]:
    rejected = sum(receipt.rejected.values())
    return Counter(bytes=text_bytes, rows=receipt.rows, tokens=receipt.tokens, rejected=rejected)


@contextmanager
def run_progress(output: str, sizes: dict[Unit, int], progress: UnitProgress) -> Iterator[None]:
    """Shows, for each language, text bytes done with rows, rows/s, tokens/s, rejected and time left.

    It looks for the tables of finished units in the output folder, so it needs nothing from workers in other processes.
    It adds the counts of unfinished units in `progress`.

    Args:
      sizes: bytes of text of the units to do.
    """
    bars = _Bars(output, sizes, progress)
    stop = threading.Event()

    def update(is_last: bool = False) -> None:
        # The run must not end because a storage does not answer for a moment.
        try:
            bars.update(is_last)
        except Exception as error:
            _log.debug("cannot update the progress bars: %s", error)

    def watch() -> None:
        while not stop.wait(_SECONDS):
            update()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        update(is_last=True)
        bars.close()


class _Bars:
    """A bar for each language, or a single bar if there are many languages."""

    def __init__(self, output: str, sizes: dict[Unit, int], progress: UnitProgress):
        self._output = output
        self._progress = progress
        self._pending = {unit.path: unit for unit in sizes}
        self._sizes = sizes
        languages = {unit.language for unit in sizes}
        self._title = f"{len(languages)} languages" if len(languages) > _MOST_BARS else None
        totals: Counter[str] = Counter()
        for unit, size in sizes.items():
            totals[self._title or unit.language] += size
        self._bars = {
            title: tqdm(total=total, desc=title, unit="B", unit_scale=True, position=line)
            for line, (title, total) in enumerate(totals.items())
        }
        self._done: dict[str, Counter[str]] = {title: Counter() for title in self._bars}
        self._started = self._looked = time.monotonic()
        self._pause = 0.0

    def update(self, is_last: bool = False) -> None:
        started = time.monotonic()
        if is_last or started - self._looked >= self._pause:
            self._count_finished()
            self._looked = time.monotonic()
            self._pause = (self._looked - started) / _MOST_LOOKING
        counts = {title: Counter(done) for title, done in self._done.items()}
        for unit, count in self._progress.counts():
            if unit.path in self._pending:
                count["bytes"] = min(count["bytes"], self._sizes[unit])
                counts[self._title or unit.language].update(count)
        seconds = time.monotonic() - self._started
        for title, bar in self._bars.items():
            count = counts[title]
            bar.set_postfix_str(
                f"{count['rows']:,} rows, {count['rows'] / seconds:,.0f} rows/s, "
                f"{count['tokens'] / seconds:,.0f} tokens/s, "
                f"{count['rejected']:,} rejected",
                refresh=False,
            )
            bar.n = count["bytes"]
            # If nobody reads the output any more, tqdm's own locking would keep the lock for ever.
            with tqdm.get_lock():
                bar.refresh(nolock=True)

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()

    def _count_finished(self) -> None:
        there = list_files(join(self._output, UNITS_FOLDER))
        for path in [path for path in self._pending if path.removeprefix(f"{UNITS_FOLDER}/") in there]:
            unit = self._pending.pop(path)
            table = read_unit_table(read_bytes(join(self._output, path)))
            done = self._done[self._title or unit.language]
            done.update(_sums(table))
            done["bytes"] += self._sizes[unit]


def _sums(table: pa.Table | None) -> Counter[str]:
    """Returns the rows, tokens and rejected records of a finished unit."""
    receipts: Sequence[str] = table["receipt"].to_pylist() if table is not None else []
    return sum((_counts(Receipt.model_validate_json(receipt), 0) for receipt in receipts), Counter())
