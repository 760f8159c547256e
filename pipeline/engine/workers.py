"""Runs tasks on the workers of a Beam runner. Their results are passed through files in the output folder."""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.engine.job import running
from pipeline.engine.options import is_local, writes_template
from pipeline.engine.tasks import RunTasks, Task, in_threads
from schemas.errors import UserError
from schemas.secrets import without_secrets
from schemas.storage import join, list_files, read_bytes, remove_file, write_bytes

_ERROR = ".error"
# Results read or removed in parallel: most of the time is spent waiting for the storage.
_AT_A_TIME = 16


def task_runner(options: PipelineOptions, output: str) -> RunTasks:
    """Returns the function that runs tasks: on the runner's workers, or in threads if it is local or writes a template.

    `output` is a folder that the workers can reach.
    """
    if is_local(options) or writes_template(options):
        return in_threads
    return partial(_on_workers, options=options, output=output)


def _on_workers(tasks: Sequence[Task], options: PipelineOptions, output: str) -> Iterator[bytes]:
    """Yields the results of tasks, in order. Raises UserError if a task raised one, or a worker was lost."""
    if not tasks:
        return
    folder = join(output, f"_tasks-{uuid.uuid4().hex}")

    def read(name: str) -> bytes:
        return read_bytes(join(folder, name))

    named = [(f"{number:06d}", task) for number, task in enumerate(tasks)]
    try:
        with running(options) as job:
            _ = job | "Tasks" >> beam.Create(named) | "Run" >> beam.MapTuple(partial(_run_to, folder))
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for name in sorted(list_files(folder)):
                if name.endswith(_ERROR):
                    raise UserError(read(name).decode())
            # Reads a few at a time, because a result may be large.
            for start in range(0, len(named), _AT_A_TIME):
                yield from pool.map(read, [name for name, _ in named[start : start + _AT_A_TIME]])
    finally:
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            list(pool.map(lambda name: remove_file(join(folder, name)), list_files(folder)))


def _run_to(folder: str, name: str, task: Task) -> None:
    try:
        content = task()
    except UserError as error:
        # Not raised, because the runner would retry a task that fails every time.
        name, content = name + _ERROR, without_secrets(str(error)).encode()
    write_bytes(join(folder, name), content)
