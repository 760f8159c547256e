"""Tasks, and threads that run them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, groupby
from typing import TypeVar

Item = TypeVar("Item")

# Enough tasks for many workers, but few enough that combining their results is quick.
MOST_TASKS = 256
# A picklable function without arguments. Its result may be passed through a file.
Task = Callable[[], bytes]
# Runs tasks anywhere, and returns their results in order.
RunTasks = Callable[[Sequence[Task]], Iterator[bytes]]


def runner_of(beam_arguments: list[str], output: str) -> RunTasks:
    """Returns the function that runs the tasks of a command with these Beam options: threads if there are none.

    `output` is a folder that the workers can reach. Raises UserError for an option that Beam does not know.
    """
    if not beam_arguments:
        return in_threads
    # Imported here because Beam takes seconds to import.
    from pipeline.engine.options import beam_options
    from pipeline.engine.workers import task_runner

    return task_runner(beam_options(beam_arguments), output)


def in_batches(items: Sequence[Item], sizes: Sequence[int]) -> list[list[Item]]:
    """Splits items into at most `MOST_TASKS` lists of consecutive items, each of about the same total size."""
    # Every item counts one extra, because an empty item costs a little too.
    ends = list(accumulate(size + 1 for size in sizes))
    numbers = [(end - 1) * MOST_TASKS // ends[-1] for end in ends]
    return [[item for _, item in batch] for _, batch in groupby(zip(numbers, items, strict=True), lambda pair: pair[0])]


def in_threads(tasks: Sequence[Task]) -> Iterator[bytes]:
    """Runs tasks in threads of this process, and yields their results in order."""
    pool = ThreadPoolExecutor()
    try:
        yield from pool.map(lambda task: task(), tasks)
    finally:
        # After an error or Ctrl-C, no more tasks start.
        pool.shutdown(cancel_futures=True)
