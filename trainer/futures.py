"""Work that waits for futures without holding a thread."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial


def when_all(futures: Sequence[Future], work: Callable[[], object], executor: Executor) -> Future:
    """The result of `work()`, called by the thread that ends the last of `futures`; by `executor` if all have ended."""
    result, waiting = Future(), [work]
    # One for each future and one for this thread; what `next` gives is given once, whatever the threads.
    missing = iter(range(len(futures), -1, -1))

    def run(work: Callable[[], object]) -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    def arrive(start: Callable, _: Future | None = None) -> None:
        # `work` is let go of, since futures keep their callbacks: else it would live as long as what it works on.
        if next(missing) == 0:
            start(run, waiting.pop())

    for future in futures:
        future.add_done_callback(partial(arrive, lambda run, work: run(work)))
    arrive(executor.submit)
    return result
