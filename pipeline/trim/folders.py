"""Counts folders of predictions, rewrites them over a smaller vocabulary a few files at a time, and reports."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from pipeline.engine.tasks import MOST_TASKS, RunTasks, in_threads
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.student_tokenizers.store import StudentTokenizers, make_tokenizers, read_tokenizers, write_tokenizers
from pipeline.student_tokenizers.word_counts import WORDS_FILE, read_words
from pipeline.trim.manifests import join_manifests, run_of, with_files
from pipeline.trim.tasks import CountTask, TrimTask
from pipeline.trim.tokens import Usage, kept_tokens, tokens_within, trim_vocabulary, trim_words
from schemas.errors import UserError
from schemas.file_table import FileTable
from schemas.manifest import RUN_FILE, write_manifest
from schemas.predictions import Predictions, open_predictions
from schemas.storage import join, list_files
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary, write_vocabulary


def trim(
    predictions: Predictions,
    output: str,
    vocabulary_from: str | None = None,
    min_predicted: int = 1,
    run_tasks: RunTasks = in_threads,
) -> dict[str, Any]:
    """Writes `predictions` to the folder `output` over a smaller vocabulary; returns the report as JSON values.

    Existing files are kept, so that the command can be stopped and run again.

    Args:
      vocabulary_from: a trimmed folder whose vocabulary and tokenizers to use, for example for held-out text.
      run_tasks: runs the tasks that count tokens and write files.

    Raises:
      UserError: `output` holds other files, `vocabulary_from` is over another vocabulary, or two of
        the folders hold files with the same name.
    """
    manifest = join_manifests(predictions)
    vocabulary = predictions.vocabulary
    target = open_predictions(vocabulary_from) if vocabulary_from else None
    kept = _tokens_of(target, vocabulary) if target else None
    present = list_files(output)
    if RUN_FILE in present:
        raise UserError(f"{output}: holds a pipeline run; choose another output")
    tokenizers = read_tokenizers(predictions.newest, vocabulary)
    usage = _count(predictions, run_tasks)
    if kept is None:
        kept = kept_tokens(usage, vocabulary, tokenizers, min_predicted)
    trimmed, table = trim_vocabulary(vocabulary, kept)
    if VOCABULARY_FILE in present and read_vocabulary(join(output, VOCABULARY_FILE)).sha256 != trimmed.sha256:
        raise UserError(f"{output}: holds predictions over another vocabulary; choose another output")
    student_tokenizers = _trim_tokenizers(predictions, tokenizers, trimmed, table, target)
    # Workers read the vocabulary there.
    write_vocabulary(join(output, VOCABULARY_FILE), trimmed)
    run_sha256 = run_of(predictions, trimmed)
    files = write_files(predictions, output, run_sha256, run_tasks)
    write_tokenizers(output, student_tokenizers)
    write_manifest(output, with_files(manifest, trimmed, run_sha256, files))
    return _report(usage, kept, trimmed)


def _count(predictions: Predictions, run_tasks: RunTasks) -> Usage:
    size = len(predictions.vocabulary)
    tasks = [CountTask(*files) for files in shares(predictions)]
    nothing = Usage(np.zeros(size, np.int64), np.zeros(size, np.int64))
    return sum(map(Usage.from_bytes, _with_progress(predictions, tasks, "counting", run_tasks)), nothing)


def write_files(predictions: Predictions, output: str, run_sha256: str, run_tasks: RunTasks) -> FileTable:
    """Writes the files over the vocabulary in `output`. Returns the manifest's table of them."""
    tasks = [TrimTask(*files, output, run_sha256) for files in shares(predictions)]
    results = _with_progress(predictions, tasks, "writing", run_tasks)
    return FileTable.joined(map(FileTable.from_parquet, results))


def shares(predictions: Predictions) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], int, int]]:
    """Yields the fields of `FileTask` for one share of the files after another."""
    folders, runs = tuple(predictions.folders), tuple(manifest.run_sha256 for manifest in predictions.manifests)
    count = sum(len(manifest.files) for manifest in predictions.manifests)
    size = -(-count // MOST_TASKS) or 1
    return ((folders, runs, start, min(start + size, count)) for start in range(0, count, size))


def _with_progress(
    predictions: Predictions, tasks: Sequence[CountTask] | Sequence[TrimTask], what: str, run_tasks: RunTasks
) -> Iterator[bytes]:
    """Yields the results of tasks, and shows progress in rows."""
    rows_F = predictions.counts("rows")
    with tqdm(total=int(rows_F.sum()), desc=what, unit="row") as bar:
        for task, result in zip(tasks, run_tasks(tasks), strict=True):
            bar.update(int(rows_F[task.start : task.stop].sum()))
            yield result


def _trim_tokenizers(
    predictions: Predictions,
    tokenizers: dict[str, PreTrainedTokenizerFast],
    trimmed: Vocabulary,
    table: np.ndarray,
    target: Predictions | None,
) -> StudentTokenizers:
    """Makes the tokenizers over the trimmed vocabulary; uses those of the folder `target` if there is one."""
    if target:
        words = read_words(join(target.newest, WORDS_FILE), len(target.vocabulary))
        return make_tokenizers(read_tokenizers(target.newest, target.vocabulary), trimmed, words)
    words = read_words(join(predictions.newest, WORDS_FILE), len(predictions.vocabulary))
    remapped = {name: remap_tokenizer(tokenizer, table) for name, tokenizer in tokenizers.items()}
    return make_tokenizers(remapped, trimmed, trim_words(words, table))


def _report(usage: Usage, kept: np.ndarray, trimmed: Vocabulary) -> dict[str, Any]:
    return {
        "tokens": len(kept),
        "kept": len(trimmed),
        "kept_by_teacher": {name: int((ids >= 0).sum()) for name, ids in trimmed.teacher_ids.items()},
        "emitted_outside": float(usage.emitted[~kept].sum() / max(1, usage.emitted.sum())),
        "predicted_outside": float(usage.predicted[~kept].sum() / max(1, usage.predicted.sum())),
    }


def format_report(report: dict[str, Any], hidden_size: int) -> str:
    """Formats the report as lines, with the parameters saved for a student of `hidden_size`."""
    saved = (report["tokens"] - report["kept"]) * (hidden_size + 1)
    by_teacher = ", ".join(f"{name} {count:,}" for name, count in report["kept_by_teacher"].items())
    return (
        f"{report['tokens']:,} merged tokens, {report['kept']:,} kept ({by_teacher})\n"
        f"outside: {report['emitted_outside']:.3%} of the text's tokens, "
        f"{report['predicted_outside']:.3%} of the predictions\n"
        f"saved: {saved:,} parameters of a student of width {hidden_size} whose embedding and head share their weights"
    )


def _tokens_of(target: Predictions, vocabulary: Vocabulary) -> np.ndarray:
    """Returns bool [V]: the tokens of `vocabulary` that are in the trimmed vocabulary of `target`."""
    kept = tokens_within(vocabulary, target.vocabulary)
    if trim_vocabulary(vocabulary, kept)[0].sha256 != target.vocabulary.sha256:
        raise UserError(
            f"{target.newest}: its vocabulary is not a part of the vocabulary of these folders, so it was trimmed from others"
        )
    return kept
