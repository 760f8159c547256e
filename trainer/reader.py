"""Streaming the predictions: languages mixed by p^alpha, rows shuffled, batches by length.

The order of batches is a function of the manifests, the configuration and the seed, and
not of who reads: every process makes the same sequence and takes its own part of it.
Rows are held a *pool* at a time: `shuffle_rows` rows drawn over the languages, sorted
by length into batches, the batches in random order. A language's rows come from its
row groups in an order permuted by (seed, language, epoch), each row group's rows
permuted too; a language that ends starts its next epoch.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import UserError
from schemas.manifest import PredictionFile, Predictions
from schemas.rows import ROW_SCHEMA, check_footer
from schemas.storage import filesystem
from trainer.collate import Batch, Rows
from trainer.config import SamplingConfig

COLUMNS = [name for name in ROW_SCHEMA.names if name not in ("example_id", "teacher")]
STATE_VERSION = 1


def read_row_group(file: PredictionFile, group: int) -> pa.Table:
    """One row group of one file, the columns that training reads.

    Raises:
      UserError: the file is truncated, foreign or from another run, naming it.
    """
    fs, path = filesystem(file.url)
    try:
        with fs.open(path, "rb") as stream:
            parquet = pq.ParquetFile(stream)
            check_footer(file.url, parquet.metadata.metadata, file.top_k, file.vocabulary_sha256)
            return parquet.read_row_group(group, columns=COLUMNS)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{file.url}: row group {group} cannot be read ({error}); remove the file and rerun the pipeline"
        ) from None


@dataclass
class _Position:
    """Where a language's stream stands: in which epoch, row group (of the permuted order) and row."""

    epoch: int = 0
    group: int = 0
    row: int = 0


@dataclass
class _LanguageStream:
    """The endless rows of one language."""

    files: list[PredictionFile]
    language: str
    seed: int
    position: _Position = field(default_factory=_Position)
    _loaded: tuple[int, int] | None = None
    _table: pa.Table | None = None

    def __post_init__(self):
        self._groups = [
            (file, group)
            for file in self.files
            if file.record.language == self.language
            for group, rows in enumerate(file.record.row_groups)
            if rows
        ]

    def take(self, count: int) -> list[pa.Table]:
        """The next `count` rows."""
        parts = []
        while count:
            table = self._current()
            part = table.slice(self.position.row, count)
            parts.append(part)
            count -= len(part)
            self.position.row += len(part)
            if self.position.row == len(table):
                self.position.row = 0
                self.position.group += 1
            if self.position.group == len(self._groups):
                self.position = _Position(self.position.epoch + 1)
        return parts

    def _current(self) -> pa.Table:
        wanted = (self.position.epoch, self.position.group)
        if self._loaded != wanted:
            order = self._random(self.position.epoch).permutation(len(self._groups))
            index = int(order[self.position.group])
            table = read_row_group(*self._groups[index])
            self._table = table.take(self._random(self.position.epoch, index).permutation(len(table)))
            self._loaded = wanted
        return self._table

    def _random(self, *counters: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.language.encode()), *counters])


class Reader:
    """An endless, resumable iterator of batches; see the module's docstring."""

    def __init__(self, predictions: Predictions, sampling: SamplingConfig, batch_tokens: int, seed: int):
        self.languages = choose_languages(predictions, sampling.languages)
        records = [
            [file.record for file in predictions.files if file.record.language == name] for name in self.languages
        ]
        rows = np.array([sum(record.rows for record in of_language) for of_language in records], float)
        positions = np.array([sum(record.masked_positions for record in of_language) for of_language in records], float)
        # Shares of positions, turned into shares of rows, which are what is drawn.
        shares = positions**sampling.alpha * rows / positions
        self.row_shares = shares / shares.sum()
        self._streams = {name: _LanguageStream(predictions.files, name, seed) for name in self.languages}
        self._top_k = predictions.top_k
        self._pad_id = predictions.vocabulary.id_of("pad")
        self._pool_rows = sampling.shuffle_rows
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._pool = 0
        self._batch = 0
        self._pool_start = self._positions()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            # A resumed reader makes its pool anew and skips the batches already seen.
            for name, position in self._pool_start.items():
                self._streams[name].position = _Position(**position)
            random = np.random.default_rng([self._seed, self._pool])
            counts = random.multinomial(self._pool_rows, self.row_shares)
            tables = [
                part
                for name, count in zip(self.languages, counts, strict=True)
                for part in self._streams[name].take(count)
            ]
            rows = Rows(pa.concat_tables(tables), self.languages, self._top_k, self._pad_id)
            batches = rows.batches(self._batch_tokens, random.permutation(self._pool_rows))
            order = random.permutation(len(batches))
            for index in order[self._batch :]:
                self._batch += 1
                yield rows.collate(batches[index])
            self._pool += 1
            self._batch = 0
            self._pool_start = self._positions()

    def state(self) -> dict:
        """Small and exact: a reader that loads it goes on with the next batch."""
        return {"version": STATE_VERSION, "pool": self._pool, "batch": self._batch, "streams": self._pool_start}

    def load_state(self, state: dict) -> None:
        """Goes back to where `state` was taken; call it before iterating."""
        if state["version"] != STATE_VERSION or set(state["streams"]) != set(self.languages):
            raise UserError(
                f"the checkpoint's reader state (version {state['version']}, languages {sorted(state['streams'])}) "
                f"does not fit this run (version {STATE_VERSION}, languages {self.languages})"
            )
        self._pool, self._batch, self._pool_start = state["pool"], state["batch"], state["streams"]

    def _positions(self) -> dict[str, dict[str, int]]:
        return {name: vars(stream.position).copy() for name, stream in self._streams.items()}


def choose_languages(predictions: Predictions, wanted: list[str] | None) -> list[str]:
    """The languages to read, sorted. UserError for one that the predictions lack."""
    known = predictions.language_names
    if not known:
        raise UserError("the predictions hold no rows at all; look at their _rejects folder")
    for language in wanted or []:
        if language not in known:
            raise UserError(
                f"sampling.languages: unknown language {language!r}; the predictions have: {', '.join(known)}"
            )
    return sorted(set(wanted)) if wanted else known
