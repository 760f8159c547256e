"""The cache of loaded teachers."""

import threading

from pipeline.teachers.cache import TeacherCache


def test_no_more_teachers_are_held_than_allowed():
    cache, lock, held, most = TeacherCache(1), threading.Lock(), set(), []

    class Thing:
        def __init__(self, name):
            self.name = name
            with lock:
                held.add(name)
                most.append(len(held))

        def __del__(self):
            with lock:
                held.discard(self.name)

    def work(number):
        for turn in range(20):
            name = (number + turn) % 3
            with cache.use(name, Thing) as thing:
                assert thing.name == name
                del thing

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
