"""Streaming the predictions: languages mixed by p^alpha, rows shuffled, batches by length.

An optimizer step takes one micro-batch from each of a fixed number of *lanes*; a process
reads its own lanes only. Lane i of n reads of each language the row groups i, i + n,
i + 2n, ... of an endless sequence: the language's row groups in an order permuted by
(seed, language, epoch), epoch after epoch. So the lanes share out every epoch without overlap or
loss, and which micro-batches a step has depends on the manifests, the configuration and
the seed, not on how many processes or threads there are.

Within a lane rows come a *pool* at a time: `shuffle_rows` rows drawn over the languages,
the next rows of each language's row group; sorted by length into batches, the batches in
random order. What a pool holds follows from the manifests alone, so pools are planned ahead and
threads read and collate them, as far ahead as memory is meant to go.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import numpy as np

from schemas.errors import UserError
from schemas.manifest import PredictionFile, Predictions
from schemas.row_groups import RowGroupReader
from trainer.config import SamplingConfig
from trainer.data.batches import Batch, Columns, Origins, Piece, columns_read, make_batches
from trainer.data.futures import when_all

STATE_VERSION = 2


class LaneState(TypedDict):
    """Where a lane is: the number of its pool, each language's position before that pool, and the next batch of it."""

    pool: int
    streams: dict[str, list[int]]
    batch: int


class ReaderState(TypedDict):
    """Where the lanes are, by their number as text; JSON."""

    version: int
    lanes: dict[str, LaneState]


def example_ids(origins: Origins, rows: Sequence[int]) -> list[str]:
    """The example ids of some of a batch's rows, read from its files."""
    pieces, groups, reader = origins.piece_B[rows].tolist(), {}, RowGroupReader(["example_id"])
    for piece in set(pieces):
        file, group = origins.groups[piece]
        groups[piece] = reader.read(file, group)["example_id"]
    return [groups[piece][row].as_py() for piece, row in zip(pieces, origins.row_B[rows].tolist(), strict=True)]


@dataclass(frozen=True)
class _PlannedPiece:
    """Rows of a row group that may still be on its way."""

    columns: Future
    rows: slice
    source: tuple[PredictionFile, int]


class _LanguageStream:
    """The endless rows of one language in one lane; `position` is (row group of the endless sequence, row in it)."""

    def __init__(self, files: Iterable[PredictionFile], language: str, seed: int, lane: int, lanes: int):
        self._groups = [(file, g) for file in files for g, rows in enumerate(file.record.row_groups) if rows]
        self._seed = [seed, zlib.crc32(language.encode())]
        self._lanes = lanes
        self._order: tuple[int, np.ndarray] | None = None
        self._reading: tuple[int, Future] | None = None
        self.position = (lane, 0)

    def take(self, count: int, read) -> list[_PlannedPiece]:
        """The next `count` rows; `read(file, group)` starts reading a row group."""
        pieces = []
        while count:
            number, row = self.position
            source = self._source(number)
            if self._reading is None or self._reading[0] != number:
                self._reading = (number, read(*source))
            rows = source[0].record.row_groups[source[1]]
            stop = min(rows, row + count)
            pieces.append(_PlannedPiece(self._reading[1], slice(row, stop), source))
            count -= stop - row
            self.position = (number, stop) if stop < rows else (number + self._lanes, 0)
        return pieces

    def _source(self, number: int) -> tuple[PredictionFile, int]:
        epoch, index = divmod(number, len(self._groups))
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([*self._seed, epoch]).permutation(len(self._groups)))
        return self._groups[self._order[1][index]]


@dataclass
class _Pool:
    """A pool in the making: the lane's state before it, and its batches."""

    state: dict
    batches: Future


class _Lane:
    """One endless sequence of batches; see the module's docstring."""

    def __init__(self, reader: "Reader", files: Sequence[PredictionFile], number: int, ahead: int):
        self._reader = reader
        self._number = number
        self._ahead = ahead
        self._streams = {
            name: _LanguageStream(
                [f for f in files if f.record.language == name], name, reader.seed, number, reader.lanes
            )
            for name in reader.languages
        }
        self._planned_pools = 0
        self._pools: deque[_Pool] = deque()
        self._batch = 0

    def __next__(self) -> Batch:
        self._plan()
        batches = self._pools[0].batches.result()
        if self._batch == len(batches):
            self._pools.popleft()
            self._batch = 0
            return next(self)
        self._batch += 1
        return batches[self._batch - 1]

    def _plan(self) -> None:
        reader = self._reader
        while len(self._pools) < 1 + self._ahead:
            state = {"pool": self._planned_pools, "streams": {k: list(s.position) for k, s in self._streams.items()}}
            random = np.random.default_rng([reader.seed, self._number, self._planned_pools])
            counts = random.multinomial(reader.pool_rows, reader.row_shares).tolist()
            pieces = [
                piece
                for stream, count in zip(self._streams.values(), counts, strict=True)
                for piece in stream.take(count, reader.start_reading)
            ]
            self._pools.append(_Pool(state, reader.start_collating(pieces, random)))
            self._planned_pools += 1

    def state(self) -> LaneState:
        self._plan()
        return {**self._pools[0].state, "batch": self._batch}

    def load_state(self, state: LaneState) -> None:
        for name, position in state["streams"].items():
            self._streams[name].position = tuple(position)
        # The pool is made anew, and the batches already seen are skipped.
        self._planned_pools, self._batch = state["pool"], state["batch"]


class Reader:
    """An endless, resumable iterator over steps: a list of this process's micro-batches; see the module's docstring.

    Args:
      top_k: 0 leaves the teacher's predictions unread.
      lanes: micro-batches a step, over all processes.
      local_lanes: the lanes of this process.
      threads: that read and collate.
    """

    def __init__(
        self,
        predictions: Predictions,
        sampling: SamplingConfig,
        batch_tokens: int,
        seed: int,
        top_k: int | None = None,
        lanes: int = 1,
        local_lanes: Sequence[int] = (0,),
        threads: int = 2,
    ):
        self.languages = choose_languages(predictions, sampling.languages)
        self.teachers = predictions.teacher_names
        self.seed, self.lanes, self.pool_rows = seed, lanes, sampling.shuffle_rows
        records = [
            [file.record for file in predictions.files if file.record.language == name] for name in self.languages
        ]
        rows = np.array([sum(record.rows for record in of_language) for of_language in records], float)
        positions = np.array([sum(record.masked_positions for record in of_language) for of_language in records], float)
        # Shares of positions, turned into shares of rows, which are what is drawn.
        shares = positions**sampling.alpha * rows / positions
        self.row_shares = shares / shares.sum()
        self._top_k = predictions.top_k if top_k is None else top_k
        self._row_groups = RowGroupReader(columns_read(self._top_k))
        self._pad_id = predictions.vocabulary.id_of("pad")
        self._batch_tokens = batch_tokens
        self._threads = ThreadPoolExecutor(threads, "reader")
        self._failure: UserError | None = None
        self.local_lanes = local_lanes
        ahead = -(-threads // len(local_lanes))
        self._lanes = {number: _Lane(self, predictions.files, number, ahead) for number in local_lanes}

    def __iter__(self) -> Iterator[list[Batch]]:
        while True:
            yield [next(lane) for lane in self._lanes.values()]

    def state(self) -> ReaderState:
        """This process's lanes: small, exact, and JSON. A reader that loads those of all goes on with the next step."""
        return {"version": STATE_VERSION, "lanes": {str(n): lane.state() for n, lane in self._lanes.items()}}

    def load_state(self, state: ReaderState) -> None:
        """Goes back to where `state`, of all lanes, was taken; call it before iterating."""
        if state["version"] != STATE_VERSION:
            raise UserError(
                f"the checkpoint's reader state has version {state['version']}, this program's {STATE_VERSION}; "
                "finish the run with the program that began it"
            )
        for number, lane in self._lanes.items():
            lane.load_state(state["lanes"][str(number)])

    def close(self) -> None:
        """Stops reading ahead."""
        self._threads.shutdown(cancel_futures=True)

    def start_reading(self, file: PredictionFile, group: int) -> "Future[Columns]":
        """A row group, read by another thread."""
        return self._threads.submit(self._read, file, group)

    def start_collating(self, planned: list[_PlannedPiece], random: np.random.Generator) -> "Future[list[Batch]]":
        """A pool's batches, made by the thread that reads its last row group: so no thread waits for another."""
        return when_all([piece.columns for piece in planned], partial(self._collate, planned, random), self._threads)

    def _read(self, file: PredictionFile, group: int) -> Columns:
        # A storage that is gone is found out by one row group a thread, not by all that are planned, minutes each.
        if self._failure:
            raise self._failure
        try:
            return Columns.of(self._row_groups.read(file, group), self._top_k)
        except UserError as error:
            self._failure = error
            raise

    def _collate(self, planned: list[_PlannedPiece], random: np.random.Generator) -> list[Batch]:
        pieces = []
        for piece in planned:
            file, group = piece.source
            language, teacher = self.languages.index(file.record.language), self.teachers.index(file.record.teacher)
            pieces.append(Piece(piece.columns.result(), piece.rows, language, teacher, file, group))
        return make_batches(pieces, self._batch_tokens, self._pad_id, random)


def merge_states(states: Sequence[ReaderState]) -> ReaderState:
    """The state of all lanes, from those of each process."""
    return {"version": STATE_VERSION, "lanes": {n: lane for state in states for n, lane in state["lanes"].items()}}


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
