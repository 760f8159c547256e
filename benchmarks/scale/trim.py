"""The launcher's part of trimming the predictions of a large run; the workers' results are made up."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.scale import trainer
from benchmarks.scale.memory import megabytes
from pipeline.trim.folders import shares, write_files
from pipeline.trim.manifests import join_manifests, with_files
from pipeline.trim.tasks import TrimTask
from schemas.file_table import FileTable
from schemas.predictions import open_predictions

make = trainer.make


def measure(folder: Path, files: int, shards: int, languages: int) -> dict[str, float]:
    """Joins the manifests, collects the tasks' reports of the files that they wrote, and makes the manifest of these files."""
    predictions = open_predictions(str(folder))
    results = {
        start: FileTable.of(predictions.file(number).record for number in range(start, stop)).content
        for _, _, start, stop in shares(predictions)
    }

    def run(tasks: Sequence[TrimTask]) -> Iterator[bytes]:
        return (results[task.start] for task in tasks)

    before, used = time.process_time(), megabytes()
    manifest = join_manifests(predictions)
    written = write_files(predictions, "made up", "made up", run)
    manifest = with_files(manifest, predictions.vocabulary, "made up", written)
    assert len(manifest.files) == shards
    return {
        "trim's launcher: processor seconds": time.process_time() - before,
        "trim's launcher: MB": megabytes() - used,
    }
