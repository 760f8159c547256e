"""Runs work after futures, without a waiting thread."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import TypeVar

Result = TypeVar("Result")


def when_all(futures: Sequence[Future], work: Callable[[], Result], executor: Executor) -> Future[Result]:
    """Runs `work()` in the thread that finishes the last of `futures`, or in `executor` if all are finished."""
    result: Future[Result] = Future()
    # Futures keep their callbacks. Once `work` runs, the callbacks must hold neither its arguments nor its result.
    waiting = [partial(_run, work, result)]
    # One number for each future and one for this thread. `next` returns each number once, however many threads call it.
    missing = iter(range(len(futures), -1, -1))

    def arrive(start: Callable, _: Future | None = None) -> None:
        if next(missing) == 0:
            start(waiting.pop())

    for future in futures:
        future.add_done_callback(partial(arrive, lambda run: run()))
    arrive(executor.submit)
    return result


def _run(work: Callable[[], Result], result: Future[Result]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:
        result.set_exception(error)
