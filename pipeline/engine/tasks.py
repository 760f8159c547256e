"""Tasks, and threads that run them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, groupby
from typing import TypeVar

Item = TypeVar("Item")

# Tasks, at most: enough for many workers, and so few that their results are soon put together.
MOST_TASKS = 256
# A picklable function without arguments. What it gives may travel by way of a file.
Task = Callable[[], bytes]
# Runs tasks, wherever, and gives their results in order.
RunTasks = Callable[[Sequence[Task]], Iterator[bytes]]


def runner_of(beam_arguments: list[str], output: str) -> RunTasks:
    """What runs the tasks of a command that was given these options of Beam: threads where it was given none.

    `output` is a folder that the workers reach. UserError for an option that Beam does not know.
    """
    if not beam_arguments:
        return in_threads
    # Here, because Beam takes seconds to import.
    from pipeline.engine.options import beam_options
    from pipeline.engine.workers import task_runner

    return task_runner(beam_options(beam_arguments), output)


def in_batches(items: Sequence[Item], sizes: Sequence[int]) -> list[list[Item]]:
    """Consecutive items in at most `MOST_TASKS` lists, each of about the same size in all."""
    # Nothing has no size, and costs a little too.
    ends = list(accumulate(size + 1 for size in sizes))
    numbers = [(end - 1) * MOST_TASKS // ends[-1] for end in ends]
    return [[item for _, item in batch] for _, batch in groupby(zip(numbers, items, strict=True), lambda pair: pair[0])]


def in_threads(tasks: Sequence[Task]) -> Iterator[bytes]:
    """The results of tasks, in order, from threads of this process."""
    pool = ThreadPoolExecutor()
    try:
        yield from pool.map(lambda task: task(), tasks)
    finally:
        # After an error or Ctrl-C nothing more is started.
        pool.shutdown(cancel_futures=True)
