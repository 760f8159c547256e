"""A worker's tasks on a few files of predictions: counting their tokens, or writing them over a trimmed vocabulary."""

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from pipeline.shard.masking import example_keys
from pipeline.shard.parquet import Receipt, encode_rows, read_receipt
from pipeline.trim.tokens import NO_KEYS, Usage, count_usage, tokens_within, trim_rows, trim_vocabulary
from schemas.errors import UserError
from schemas.file_table import FileRecord, FileTable
from schemas.footers import read_footer
from schemas.predictions import PredictionFile, Predictions, open_predictions
from schemas.ragged import flatten
from schemas.row_groups import read_row_groups
from schemas.rows import check_footer, row_schema
from schemas.storage import exists, join, write_bytes
from schemas.vocabulary import VOCABULARY_FILE, Vocabulary, read_vocabulary

# The first thread of a process opens the folders for all threads.
_OPENING = threading.Lock()


@dataclass(frozen=True)
class FileTask:
    """The files [start, stop) of folders of predictions.

    Attributes:
      runs: the fingerprints of the folders' runs, so that a process opens the folders of each run only once.
    """

    folders: tuple[str, ...]
    runs: tuple[str, ...]
    start: int
    stop: int

    @property
    def predictions(self) -> Predictions:
        """The predictions with all files of the folders."""
        with _OPENING:
            return _open(self.folders, self.runs)

    @property
    def files(self) -> list[PredictionFile]:
        """The files [start, stop)."""
        predictions = self.predictions
        return [predictions.file(number) for number in range(self.start, self.stop)]


class CountTask(FileTask):
    """Counts the tokens of files."""

    def __call__(self) -> bytes:
        """Returns `Usage.to_bytes` for the files."""
        size = len(self.predictions.vocabulary)
        usage = Usage(np.zeros(size, np.int64), np.zeros(size, np.int64))
        for file in self.files:
            usage += count_usage(_read(file), size)
        return usage.to_bytes()


@dataclass(frozen=True)
class TrimTask(FileTask):
    """Writes files over the vocabulary in the folder `output`, unless they exist.

    Attributes:
      run_sha256: the fingerprint of the trimmed run.
    """

    output: str
    run_sha256: str

    def __call__(self) -> bytes:
        """Returns the table of its files (`FileTable.content`)."""
        with _OPENING:
            vocabulary, table = _trimming(self.folders, self.runs, self.output, self.run_sha256)
        return FileTable.of(self._trim(file, vocabulary, table) for file in self.files).content

    def _trim(self, file: PredictionFile, vocabulary: Vocabulary, table: np.ndarray) -> FileRecord:
        url = join(self.output, file.record.path)
        source = read_receipt(file.url, read_footer(file.url).metadata)
        if not exists(url):
            write_bytes(url, self._content(file, source, vocabulary, table))
        footer = read_footer(url)
        check_footer(
            url,
            footer.metadata.metadata,
            file.top_k,
            vocabulary.sha256,
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

    def _content(self, file: PredictionFile, source: Receipt, vocabulary: Vocabulary, table: np.ndarray) -> bytes:
        # Without an unknown token, inputs that were left out are masked.
        unknown = vocabulary.id_of("unknown" if "unknown" in vocabulary.roles else "mask")
        rows = _read(file)
        keys_N = _keys(rows, file.manifest.seed, vocabulary) if file.tail_samples else NO_KEYS
        rows = trim_rows(rows, table, unknown, file.top_k, file.tail_samples, keys_N)
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
            vocabulary.sha256,
            self.run_sha256,
            receipt.model_dump_json(),
            max([1, *file.record.row_groups]),
            tail_samples=file.tail_samples,
        )


@lru_cache(maxsize=1)
def _open(folders: tuple[str, ...], runs: tuple[str, ...]) -> Predictions:
    return open_predictions(*folders)


@lru_cache(maxsize=1)
def _trimming(
    folders: tuple[str, ...], runs: tuple[str, ...], output: str, run_sha256: str
) -> tuple[Vocabulary, np.ndarray]:
    """Returns the trimmed vocabulary, and the table from merged to trimmed ids (`trim_vocabulary`)."""
    vocabulary = _open(folders, runs).vocabulary
    return trim_vocabulary(vocabulary, tokens_within(vocabulary, read_vocabulary(join(output, VOCABULARY_FILE))))


def _keys(rows: pa.Table, seed: int, vocabulary: Vocabulary) -> np.ndarray:
    """Returns uint64 [N]: keys that differ from those of the ids alone, which drew the tail samples."""
    return example_keys(seed, [f"{example_id}:{vocabulary.sha256}" for example_id in rows["example_id"].to_pylist()])


def _read(file: PredictionFile) -> pa.Table:
    """Reads all rows and columns of a file, so that a fault is found before anything is written."""
    groups = [rows.replace_schema_metadata() for rows in read_row_groups(file)]
    return pa.concat_tables([row_schema(file.tail_samples).empty_table(), *groups])
