"""A cache of the teachers that a process holds in memory, with a limit on their number."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.teachers.loading import Teacher


class TeacherCache:
    """Teachers by name, shared between threads, at most `most` at a time."""

    def __init__(self, most: int):
        self._most = most
        self._changed = threading.Condition()
        self._held: dict[str, Teacher] = {}
        self._users: Counter[str] = Counter()

    @contextmanager
    def use(self, name: str, load: Callable[[str], Teacher]) -> Iterator[Teacher]:
        """Yields a teacher, loaded if it is not cached; waits while too many others are in use."""
        with self._changed:
            while name not in self._held and len(self._held) >= self._most:
                idle = [held for held in self._held if not self._users[held]]
                if idle:
                    del self._held[idle[0]]
                else:
                    self._changed.wait()
            if name not in self._held:
                self._held[name] = load(name)
            self._users[name] += 1
            teacher = self._held[name]
        try:
            yield teacher
        finally:
            # Otherwise this frame would keep the teacher alive after it is evicted.
            del teacher
            with self._changed:
                self._users[name] -= 1
                self._changed.notify_all()
