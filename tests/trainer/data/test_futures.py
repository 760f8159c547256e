"""Work that waits for several futures."""

import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

from trainer.data.futures import when_all


def test_work_for_which_all_futures_are_awaited_runs_once_and_is_let_go():
    first, second, names = Future(), Future(), []
    work = lambda: names.append(threading.current_thread().name) or len(names)  # noqa: E731
    with ThreadPoolExecutor(1, "pool") as executor:
        result = when_all([first, second], work, executor)
        alive = weakref.ref(work), weakref.ref(result)
        second.set_result(None)
        assert not result.done()
        ending = threading.Thread(target=first.set_exception, args=(KeyError(),), name="last")
        ending.start()
        ending.join()
        assert result.result(timeout=10) == 1 and names == ["last"]
        assert when_all([first, second], lambda: threading.current_thread().name, executor).result() == "pool_0"
        assert isinstance(when_all([first], first.result, executor).exception(), KeyError)
    # The futures are still alive.
    del work, result
    assert [reference() for reference in alive] == [None, None]


def test_of_many_threads_one_runs_the_work():
    with ThreadPoolExecutor(8) as executor:
        for _ in range(200):
            done = []
            futures = [executor.submit(int) for _ in range(8)]
            assert when_all(futures, lambda done=done: done.append(1), executor).result(timeout=10) is None
            assert done == [1]
