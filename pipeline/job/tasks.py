"""Reading files before a run: in threads of the launcher, or on the workers of a runner that has others."""

import json
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
from tqdm import tqdm

from pipeline.text.survey import FileTask, RunTasks
from schemas.corpus.survey import Survey
from schemas.errors import UserError
from schemas.secrets import without_secrets
from schemas.storage import join, read_bytes, remove_file, write_bytes

# What takes less shows no progress.
_SECONDS = 5
_LOCAL_RUNNERS = ("", "directrunner", "bundlebaseddirectrunner", "fnapirunner", "switchingdirectrunner")


def in_threads(tasks: list[FileTask]) -> Iterator[Survey | None]:
    """The results of tasks, in order, from threads of this process."""
    with ThreadPoolExecutor() as pool:
        results = pool.map(FileTask.run, tasks)
        yield from tqdm(results, "reading text", len(tasks), unit=" files", leave=False, delay=_SECONDS)


def task_runner(options: PipelineOptions, output: str) -> RunTasks:
    """What runs tasks where a run's units will be: threads where the runner is local, or only writes a template."""
    runner = (options.view_as(StandardOptions).runner or "").rpartition(".")[2].lower()
    if runner in _LOCAL_RUNNERS or options.view_as(GoogleCloudOptions).template_location:
        return in_threads
    return lambda tasks: _on_workers(tasks, options, output)


def _on_workers(tasks: list[FileTask], options: PipelineOptions, output: str) -> Iterable[Survey | None]:
    """The same by the runner. Results come by way of files in the output folder, which are removed."""
    whole = [task for task in tasks if task.parts is not None]
    surveys: Iterator[Survey | None] = iter([])
    if whole:
        folder = join(output, f"_survey-{uuid.uuid4().hex}")
        urls = [join(folder, f"{number:06d}.json") for number in range(len(whole))]
        with beam.Pipeline(options=options) as job:
            _ = job | "Files" >> beam.Create(list(zip(whole, urls, strict=True))) | "Read" >> beam.MapTuple(_run_to)
        surveys = map(_survey, [_take(url) for url in urls])
    # The beginnings of a few others.
    looked_at = in_threads([task for task in tasks if task.parts is None])
    return [next(surveys if task.parts is not None else looked_at) for task in tasks]


def _run_to(task: FileTask, url: str) -> None:
    try:
        survey = task.run()
        content = asdict(survey) if survey else {}
    except UserError as error:
        content = {"error": without_secrets(str(error))}
    write_bytes(url, json.dumps(content).encode())


def _take(url: str) -> dict[str, Any]:
    content = json.loads(read_bytes(url))
    remove_file(url)
    return content


def _survey(content: dict[str, Any]) -> Survey:
    if "error" in content:
        raise UserError(content["error"])
    return Survey(**content)
