"""Folders of predictions over a smaller vocabulary: counted, rewritten file by file, and reported on."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from pipeline.shard.masking import example_keys
from pipeline.shard.parquet import Receipt, encode_rows, read_receipt
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.student_tokenizers.store import StudentTokenizers, make_tokenizers, read_tokenizers, write_tokenizers
from pipeline.student_tokenizers.word_counts import WORDS_FILE, read_words
from pipeline.trim.tokens import NO_KEYS, Usage, count_usage, kept_tokens, trim_rows, trim_vocabulary, trim_words
from schemas.errors import UserError
from schemas.file_table import FileRecord, FileTable
from schemas.footers import read_footer
from schemas.manifest import RUN_FILE, Manifest, TeacherRecord, VocabularyRecord, write_manifest
from schemas.predictions import PredictionFile, Predictions, open_predictions
from schemas.ragged import flatten
from schemas.row_groups import read_row_groups
from schemas.rows import check_footer, row_schema
from schemas.storage import join, list_files, write_bytes
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, write_vocabulary

Result = TypeVar("Result")
# Files read or written at once.
_THREADS = 4


def trim(
    predictions: Predictions, output: str, vocabulary_from: str | None = None, min_predicted: int = 1
) -> dict[str, Any]:
    """Writes `predictions` to the folder `output` over a smaller vocabulary; returns the report as JSON values.

    Files that are there already are kept, so that the command can be stopped and run again.

    Args:
      vocabulary_from: a trimmed folder whose vocabulary and tokenizers to use, for example for held-out text.

    Raises:
      UserError: `output` holds other files, `vocabulary_from` is over another vocabulary, or two of
        the folders hold files of the same name.
    """
    manifest = _join_manifests(predictions)
    vocabulary = predictions.vocabulary
    target = open_predictions(vocabulary_from) if vocabulary_from else None
    kept = _tokens_of(target, vocabulary) if target else None
    tokenizers = read_tokenizers(predictions.newest, vocabulary)
    usage = _count_all(predictions)
    if kept is None:
        kept = kept_tokens(usage, vocabulary, tokenizers, min_predicted)
    trimmed, table = trim_vocabulary(vocabulary, kept)
    present = list_files(output)
    if RUN_FILE in present:
        raise UserError(f"{output}: holds a run of the pipeline; choose another output")
    student_tokenizers = _trim_tokenizers(predictions, tokenizers, trimmed, table, target)
    run_sha256 = _run_of(predictions, trimmed)
    trimmer = _FileTrimmer(output, list_files(output).keys(), trimmed, table, run_sha256)
    records = list(_in_parallel(predictions.files, "writing", trimmer.trim))
    write_vocabulary(join(output, VOCABULARY_FILE), trimmed)
    write_tokenizers(output, student_tokenizers)
    write_manifest(output, _with_files(manifest, trimmed, run_sha256, records))
    return _report(usage, kept, trimmed)


def _count_all(predictions: Predictions) -> Usage:
    size = len(predictions.vocabulary)
    nothing = Usage(np.zeros(size, np.int64), np.zeros(size, np.int64))
    return sum(_in_parallel(predictions.files, "counting", lambda file: count_usage(_read(file), size)), nothing)


def _trim_tokenizers(
    predictions: Predictions,
    tokenizers: dict[str, PreTrainedTokenizerFast],
    trimmed: Vocabulary,
    table: np.ndarray,
    target: Predictions | None,
) -> StudentTokenizers:
    """The tokenizers over the trimmed vocabulary, with those of the folder `target` where there is one."""
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
    """The report as lines, with what it saves a student of `hidden_size`."""
    saved = (report["tokens"] - report["kept"]) * (hidden_size + 1)
    by_teacher = ", ".join(f"{name} {count:,}" for name, count in report["kept_by_teacher"].items())
    return (
        f"{report['tokens']:,} merged tokens, {report['kept']:,} kept ({by_teacher})\n"
        f"outside: {report['emitted_outside']:.3%} of the text's tokens, "
        f"{report['predicted_outside']:.3%} of the predictions\n"
        f"saved: {saved:,} parameters of a student of width {hidden_size}, whose embedding and head share their weights"
    )


def _join_manifests(predictions: Predictions) -> Manifest:
    """One manifest for all folders: that of the newest, with the teachers, languages and files of all."""
    paths = [file.record.path for file in predictions.files]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise UserError(
            f"{twice} is in more than one of {', '.join(predictions.folders)}; trim them into folders apart"
        )
    teachers: dict[str, TeacherRecord] = {}
    for manifest in predictions.manifests:
        for name, record in manifest.teachers.items():
            known = teachers[name].languages if name in teachers else []
            languages = [*known, *(language for language in record.languages if language not in known)]
            teachers[name] = record.model_copy(update={"languages": languages})
    newest = predictions.manifests[predictions.folders.index(predictions.newest)]
    for folder, manifest in zip(predictions.folders, predictions.manifests, strict=True):
        if (manifest.masking, manifest.seed) != (newest.masking, newest.seed):
            raise UserError(
                f"{folder}: was masked otherwise than {predictions.newest}, and one manifest cannot say both; "
                "trim them into folders apart, the second with --vocabulary-from"
            )
        if manifest.tail_samples != newest.tail_samples:
            raise UserError(
                f"{folder}: tail_samples is {manifest.tail_samples}, but in {predictions.newest} it is "
                f"{newest.tail_samples}; trim them into folders apart, the second with --vocabulary-from"
            )
    return newest.model_copy(
        update={
            "max_length": predictions.max_length,
            "teachers": teachers,
            "hub_models": sorted(predictions.hub_models),
            "languages": [record for manifest in predictions.manifests for record in manifest.languages],
            "files": FileTable.of(file.record for file in predictions.files),
        }
    )


def _run_of(predictions: Predictions, vocabulary: Vocabulary) -> str:
    """The fingerprint of the trimmed run: of the runs that it was made from, and of its vocabulary."""
    parts = [*(manifest.run_sha256 for manifest in predictions.manifests), vocabulary.sha256]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _with_files(manifest: Manifest, vocabulary: Vocabulary, run_sha256: str, files: list[FileRecord]) -> Manifest:
    """`manifest` over another vocabulary, with its files as they were written."""
    languages = [
        record.model_copy(
            update={"rows": sum(f.rows for f in files if (f.language, f.teacher) == (record.language, record.teacher))}
        )
        for record in manifest.languages
    ]
    record = VocabularyRecord(size=len(vocabulary), sha256=vocabulary.sha256)
    changes = {"vocabulary": record, "run_sha256": run_sha256, "trimmed": True, "languages": languages}
    return manifest.model_copy(update=changes | {"files": FileTable.of(files)})


@dataclass(frozen=True)
class _FileTrimmer:
    """Writes files over a trimmed vocabulary into the folder `output`, where the files `present` are already.

    `table` maps merged ids to trimmed ids (`trim_vocabulary`).
    """

    output: str
    present: Collection[str]
    vocabulary: Vocabulary
    table: np.ndarray
    run_sha256: str

    def trim(self, file: PredictionFile) -> FileRecord:
        """Writes one file, unless it is there; returns its record."""
        url = join(self.output, file.record.path)
        source = read_receipt(file.url, read_footer(file.url).metadata)
        if file.record.path not in self.present:
            write_bytes(url, self._content(file, source))
        footer = read_footer(url)
        check_footer(
            url,
            footer.metadata.metadata,
            file.top_k,
            self.vocabulary.sha256,
            self.run_sha256,
            tail_samples=file.tail_samples,
        )
        receipt = read_receipt(url, footer.metadata)
        if (receipt.records, receipt.used) != (source.records, source.used):
            raise UserError(f"{url}: was trimmed from another run; remove it, or choose another output")
        return file.record.model_copy(
            update={
                "rows": receipt.rows,
                "row_groups": footer.row_groups,
                "tokens": receipt.tokens,
                "masked_positions": receipt.masked_positions,
                "size": footer.size,
                "footer_sha256": footer.sha256,
            }
        )

    def _content(self, file: PredictionFile, source: Receipt) -> bytes:
        # Where there is no unknown token, inputs that are left out are masked.
        unknown = self.vocabulary.id_of("unknown" if "unknown" in self.vocabulary.roles else "mask")
        rows = _read(file)
        keys_N = self._keys(rows, file.manifest.seed) if file.tail_samples else NO_KEYS
        rows = trim_rows(rows, self.table, unknown, file.top_k, file.tail_samples, keys_N)
        receipt = source.model_copy(
            update={
                "rows": len(rows),
                "tokens": len(flatten(rows["input_ids"])[0]),
                "masked_positions": len(flatten(rows["labels"])[0]),
            }
        )
        return encode_rows(
            rows,
            file.top_k,
            self.vocabulary.sha256,
            self.run_sha256,
            receipt.model_dump_json(),
            max([1, *file.record.row_groups]),
            tail_samples=file.tail_samples,
        )

    def _keys(self, rows: pa.Table, seed: int) -> np.ndarray:
        """uint64 [N]: other keys than those of the ids alone, with which the samples of the tail were drawn."""
        return example_keys(
            seed, [f"{example_id}:{self.vocabulary.sha256}" for example_id in rows["example_id"].to_pylist()]
        )


def _tokens_of(target: Predictions, vocabulary: Vocabulary) -> np.ndarray:
    """bool [V]: the tokens of `vocabulary` that the trimmed vocabulary of `target` has."""
    wanted = set(zip(target.vocabulary.roles, target.vocabulary.tokens, strict=True))
    kept = np.array([written in wanted for written in zip(vocabulary.roles, vocabulary.tokens, strict=True)])
    if trim_vocabulary(vocabulary, kept)[0].sha256 != target.vocabulary.sha256:
        raise UserError(f"{target.newest}: its vocabulary is no part of this one; it was trimmed from another")
    return kept


def _read(file: PredictionFile) -> pa.Table:
    """All rows of a file, with all columns, so that a fault is found before anything is written."""
    groups = [rows.replace_schema_metadata() for rows in read_row_groups(file)]
    return pa.concat_tables([row_schema(file.tail_samples).empty_table(), *groups])


def _in_parallel(files: list[PredictionFile], what: str, work: Callable[[PredictionFile], Result]) -> Iterator[Result]:
    """The result of `work` for each file, several at a time, with progress in rows."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        with tqdm(total=sum(file.record.rows for file in files), desc=what, unit="row") as bar:
            for file, result in zip(files, pool.map(work, files), strict=True):
                bar.update(file.record.rows)
                yield result
    finally:
        # After an error or Ctrl-C nothing more is started.
        pool.shutdown(cancel_futures=True)
