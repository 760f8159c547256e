"""A progress bar over committed shards, whatever the runner."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from pipeline.shards import Shard
from schemas.storage import list_files

_SECONDS = 1.0


@contextmanager
def shard_progress(output: str, shards: list[Shard]) -> Iterator[None]:
    """Shows text bytes done, rate and time left while the body runs.

    It watches the output folder, so it needs nothing from the workers.
    """
    pending = {shard.path: shard.lines.end - shard.lines.start for shard in shards}
    stop = threading.Event()
    with tqdm(total=sum(pending.values()), desc="teacher predictions", unit="B", unit_scale=True) as bar:

        def look() -> None:
            for path in pending.keys() & list_files(output):
                bar.update(pending.pop(path))
            bar.set_postfix_str(f"{len(shards) - len(pending)}/{len(shards)} shards")

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
