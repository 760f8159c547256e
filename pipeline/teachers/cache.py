"""What a process holds in memory: no more at a time than it was told."""

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any


class Pool:
    """Things that are dear to hold, shared between threads, at most so many at a time."""

    def __init__(self):
        self._changed = threading.Condition()
        self._held: dict[Hashable, Any] = {}
        self._users: Counter = Counter()

    @contextmanager
    def use(self, key: Hashable, make: Callable[[], Any], most: int) -> Iterator[Any]:
        """Gives the thing called `key`, made if it is not held; waits while `most` others are in use."""
        with self._changed:
            while key not in self._held and len(self._held) >= most:
                idle = [held for held in self._held if not self._users[held]]
                if idle:
                    del self._held[idle[0]]
                else:
                    self._changed.wait()
            if key not in self._held:
                self._held[key] = make()
            self._users[key] += 1
            thing = self._held[key]
        try:
            yield thing
        finally:
            del thing
            with self._changed:
                self._users[key] -= 1
                self._changed.notify_all()
