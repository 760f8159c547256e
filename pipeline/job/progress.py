"""Progress bars over the languages' text, whatever the runner."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from pipeline.shard.parquet import read_receipt
from pipeline.shard.shard import Shard
from schemas.manifest import read_footer
from schemas.storage import join, list_files

_SECONDS = 1.0
# By shard path, how much of it this process has predicted: tokens done, tokens in all, rows in all.
_PREDICTED: dict[str, tuple[int, int, int]] = {}


def shard_progress(path: str, done: int, tokens: int, rows: int) -> None:
    """Notes how much of a shard is predicted; shown where the workers are this process's threads."""
    _PREDICTED[path] = (done, tokens, rows)


@contextmanager
def run_progress(output: str, shards: list[Shard]) -> Iterator[None]:
    """Shows, for each language, text bytes done with rows, rows/s, tokens/s, rejected and time left.

    It watches the output folder and reads new files' receipts, so it needs nothing from
    the workers.
    """
    pending = {shard.path: shard for shard in shards}
    totals = Counter()
    for shard in shards:
        totals[shard.language] += shard.part.size
    bars = {
        language: tqdm(total=total, desc=language, unit="B", unit_scale=True, position=place)
        for place, (language, total) in enumerate(totals.items())
    }
    counts: dict[str, Counter] = {language: Counter() for language in bars}
    stop, started = threading.Event(), time.monotonic()

    def look() -> None:
        for path in pending.keys() & list_files(output):
            shard = pending.pop(path)
            _PREDICTED.pop(path, None)
            url = join(output, path)
            receipt = read_receipt(url, read_footer(url).metadata)
            counts[shard.language].update(
                bytes=shard.part.size,
                rows=receipt.rows,
                tokens=receipt.tokens,
                rejected=sum(receipt.rejected.values()),
            )
        seconds = time.monotonic() - started
        for language, bar in bars.items():
            count = counts[language].copy()
            for path, (done, tokens, rows) in list(_PREDICTED.items()):
                if path in pending and pending[path].language == language:
                    share = done / tokens
                    count.update(bytes=int(pending[path].part.size * share), rows=int(rows * share), tokens=done)
            bar.set_postfix_str(
                f"{count['rows']:,} rows, {count['rows'] / seconds:,.0f} rows/s, "
                f"{count['tokens'] / seconds:,.0f} tokens/s, "
                f"{count['rejected']:,} rejected",
                refresh=False,
            )
            bar.n = count["bytes"]
            bar.refresh()

    def watch() -> None:
        while not stop.wait(_SECONDS):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        look()
        for bar in bars.values():
            bar.close()
        _PREDICTED.clear()
