"""Progress bars over the languages' text, whatever the runner."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tqdm import tqdm

from pipeline.shard.parquet import read_receipt
from pipeline.shard.shard import Shard
from schemas.footers import read_footer
from schemas.storage import join, list_files

_SECONDS = 1.0


class Predicted(NamedTuple):
    """How much of a shard is predicted: tokens done, tokens in all, rows in all."""

    done: int
    tokens: int
    rows: int


class ShardProgress:
    """How much of each shard that is not finished one process has predicted, by the path of the shard's file.

    Its threads write it. The bars can read it only where the workers are threads of the launcher's own process.
    """

    def __init__(self) -> None:
        self._predicted: dict[str, Predicted] = {}

    def note(self, path: str, done: int, tokens: int, rows: int) -> None:
        """Says how far a shard is."""
        self._predicted[path] = Predicted(done, tokens, rows)

    def forget(self, path: str) -> None:
        """Leaves out a shard whose file is written."""
        self._predicted.pop(path, None)

    def items(self) -> list[tuple[str, Predicted]]:
        """How far each shard is."""
        return list(self._predicted.items())


@contextmanager
def run_progress(output: str, shards: list[Shard], progress: ShardProgress) -> Iterator[None]:
    """Shows, for each language, text bytes done with rows, rows/s, tokens/s, rejected and time left.

    It watches the output folder and reads new files' receipts, so it needs nothing from workers in other processes.
    What `progress` says of unfinished shards is added.
    """
    bars = _Bars(output, shards, progress)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_SECONDS):
            bars.update()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        bars.update()
        bars.close()


class _Bars:
    """A bar for each language."""

    def __init__(self, output: str, shards: list[Shard], progress: ShardProgress):
        self._output = output
        self._progress = progress
        self._pending = {shard.path: shard for shard in shards}
        totals: Counter[str] = Counter()
        for shard in shards:
            totals[shard.language] += shard.part.size
        self._bars = {
            language: tqdm(total=total, desc=language, unit="B", unit_scale=True, position=line)
            for line, (language, total) in enumerate(totals.items())
        }
        self._counts: dict[str, Counter[str]] = {language: Counter() for language in self._bars}
        self._started = time.monotonic()

    def update(self) -> None:
        self._count_new_files()
        seconds = time.monotonic() - self._started
        for language, bar in self._bars.items():
            count = self._counts[language] + self._unfinished(language)
            bar.set_postfix_str(
                f"{count['rows']:,} rows, {count['rows'] / seconds:,.0f} rows/s, "
                f"{count['tokens'] / seconds:,.0f} tokens/s, "
                f"{count['rejected']:,} rejected",
                refresh=False,
            )
            bar.n = count["bytes"]
            bar.refresh()

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()

    def _count_new_files(self) -> None:
        for path in self._pending.keys() & list_files(self._output):
            shard = self._pending.pop(path)
            self._progress.forget(path)
            url = join(self._output, path)
            receipt = read_receipt(url, read_footer(url).metadata)
            self._counts[shard.language].update(
                bytes=shard.part.size,
                rows=receipt.rows,
                tokens=receipt.tokens,
                rejected=sum(receipt.rejected.values()),
            )

    def _unfinished(self, language: str) -> Counter[str]:
        count: Counter[str] = Counter()
        for path, predicted in self._progress.items():
            shard = self._pending.get(path)
            if shard and shard.language == language:
                share = predicted.done / predicted.tokens
                count.update(
                    bytes=int(shard.part.size * share), rows=int(predicted.rows * share), tokens=predicted.done
                )
        return count
