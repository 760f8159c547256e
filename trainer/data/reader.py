"""Streaming the predictions: languages mixed by p^alpha, rows shuffled, batches by length.

An optimizer step takes one micro-batch from each of a fixed number of *lanes*; a process reads only its local lanes.
The lanes divide every epoch without overlap or loss (`trainer.data.plan`). The micro-batches of a step depend on the
manifests, the configuration and the seed, not on the number of processes or threads.

Each lane reads a *pool* of rows at a time, groups them by length into batches, and shuffles the batches. A pool's rows
are known without reading any row, so pools are planned ahead, and threads read and collate a limited number of them in
advance.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypedDict

from schemas.errors import UserError
from schemas.predictions import Predictions
from schemas.row_groups import RowGroupReader
from trainer.config import SamplingConfig
from trainer.data.batches import Batch, Columns, Origins, Piece, columns_read, make_batches
from trainer.data.futures import when_all
from trainer.data.plan import Mixture, PoolPlan, Position, RowGroup, make_mixture, plan_pool

STATE_VERSION = 2


class LaneState(TypedDict):
    """A lane's place: the number of its pool, each language's position before that pool, and the next batch in it."""

    pool: int
    streams: dict[str, list[int]]
    batch: int


class ReaderState(TypedDict):
    """The places of the lanes, by lane number as text; JSON."""

    version: int
    lanes: dict[str, LaneState]


class Reader:
    """Endless, resumable iterator over steps, each a list of this process's micro-batches (see the module's docstring).

    Args:
      top_k: 0 skips the teacher's predictions.
      tail_samples: that of the predictions, or 0 to skip the samples.
      lanes: micro-batches per step, over all processes.
      local_lanes: the lanes of this process.
      threads: how many threads read and collate.
    """

    def __init__(
        self,
        predictions: Predictions,
        sampling: SamplingConfig,
        batch_tokens: int,
        seed: int,
        *,
        top_k: int | None = None,
        tail_samples: int = 0,
        lanes: int = 1,
        local_lanes: Sequence[int] = (0,),
        threads: int = 2,
    ):
        mixture = make_mixture(predictions, sampling, seed, lanes)
        self.languages = list(mixture.languages)
        self.teachers = predictions.teacher_names
        self.local_lanes = local_lanes
        top_k = predictions.top_k if top_k is None else top_k
        pad_id = predictions.vocabulary.id_of("pad")
        self._runner = _PlanRunner(
            predictions, self.languages, self.teachers, top_k, tail_samples, batch_tokens, pad_id, threads
        )
        ahead = -(-threads // len(local_lanes))
        self._buffers = {lane: _ShuffleBuffer(mixture, lane, self._runner, ahead) for lane in local_lanes}

    def __iter__(self) -> Iterator[list[Batch]]:
        while True:
            yield [next(buffer) for buffer in self._buffers.values()]

    def state(self) -> ReaderState:
        """The state of the local lanes: small, exact, JSON. A reader that loads all lanes' states resumes there."""
        return {"version": STATE_VERSION, "lanes": {str(lane): b.state() for lane, b in self._buffers.items()}}

    def load_state(self, state: ReaderState) -> None:
        """Goes to the point where `state`, of all lanes, was taken; call it before iterating."""
        if state["version"] != STATE_VERSION:
            raise UserError(
                f"the checkpoint's reader state has version {state['version']}, but this program reads {STATE_VERSION}; "
                "finish the run with the version that began it"
            )
        for lane, buffer in self._buffers.items():
            buffer.load_state(state["lanes"][str(lane)])

    def close(self) -> None:
        """Stops reading ahead."""
        self._runner.close()


def merge_states(states: Sequence[ReaderState]) -> ReaderState:
    """Merges the states of all processes into the state of all lanes."""
    return {"version": STATE_VERSION, "lanes": {n: lane for state in states for n, lane in state["lanes"].items()}}


@dataclass(frozen=True)
class _Pool:
    """A pool that is being read: its number, the lane's positions before it, and its batches."""

    number: int
    positions: Mapping[str, Position]
    batches: Future[list[Batch]]


class _ShuffleBuffer:
    """The endless sequence of batches of one lane. It reads `ahead` pools beyond the current one."""

    def __init__(self, mixture: Mixture, lane: int, runner: "_PlanRunner", ahead: int):
        self._mixture = mixture
        self._lane = lane
        self._runner = runner
        self._ahead = ahead
        self._pools: deque[_Pool] = deque()
        # Index of the next batch in the first pool.
        self._batch = 0
        # The next pool to plan, and the lane's positions before it.
        self._number = 0
        self._positions = mixture.first_positions(lane)
        self._reading: Reading = {}

    def __next__(self) -> Batch:
        self._fill()
        batches = self._pools[0].batches.result()
        if self._batch == len(batches):
            self._pools.popleft()
            self._batch = 0
            return next(self)
        self._batch += 1
        return batches[self._batch - 1]

    def _fill(self) -> None:
        while len(self._pools) < 1 + self._ahead:
            plan = plan_pool(self._mixture, self._lane, self._number, self._positions)
            self._pools.append(_Pool(self._number, self._positions, self._runner.start(plan, self._reading)))
            self._number, self._positions = self._number + 1, plan.positions

    def state(self) -> LaneState:
        self._fill()
        pool = self._pools[0]
        positions = {language: list(position) for language, position in pool.positions.items()}
        return {"pool": pool.number, "streams": positions, "batch": self._batch}

    def load_state(self, state: LaneState) -> None:
        # The pool is made again, and its batches that were already used are skipped.
        self._number, self._batch = state["pool"], state["batch"]
        self._positions = {language: (number, row) for language, (number, row) in state["streams"].items()}


# For each language, the last row group that a lane read: its number and columns. The next pool continues with it.
Reading = dict[str, tuple[int, Future[Columns]]]


class _PlanRunner:
    """Turns plans into batches: threads read the row groups and collate the rows.

    Args:
      languages, teachers: the lists that indices in batches refer to.
    """

    def __init__(
        self,
        predictions: Predictions,
        languages: list[str],
        teachers: list[str],
        top_k: int,
        tail_samples: int,
        batch_tokens: int,
        pad_id: int,
        threads: int,
    ):
        # Cached, because the row groups of a file are not read one after the other.
        self._file = lru_cache(maxsize=4096)(predictions.file)
        self._languages = languages
        self._teachers = teachers
        self._top_k = top_k
        self._tail_samples = tail_samples
        self._batch_tokens = batch_tokens
        self._pad_id = pad_id
        self._row_groups = RowGroupReader(columns_read(top_k, tail_samples))
        self._executor = ThreadPoolExecutor(threads, "reader")
        self._failure: UserError | None = None

    def start(self, plan: PoolPlan, reading: Reading) -> Future[list[Batch]]:
        """Starts reading the row groups that `reading` lacks, and returns the pool's batches.

        The thread that reads the last row group makes the batches, so no thread waits for another.
        """
        columns = []
        for piece in plan.pieces:
            if piece.language not in reading or reading[piece.language][0] != piece.number:
                reading[piece.language] = (piece.number, self._executor.submit(self._read, piece.row_group))
            columns.append(reading[piece.language][1])
        return when_all(columns, partial(self._collate, plan, columns), self._executor)

    def close(self) -> None:
        """Cancels work that has not begun."""
        self._executor.shutdown(cancel_futures=True)

    def _read(self, row_group: RowGroup) -> Columns:
        # If the storage fails, each thread notices once; trying every planned row group would take minutes each.
        if self._failure:
            raise self._failure
        try:
            rows = self._row_groups.read(self._file(row_group.file), row_group.group)
            return Columns.of(rows, self._top_k, self._tail_samples)
        except UserError as error:
            self._failure = error
            raise

    def _collate(self, plan: PoolPlan, columns: Sequence[Future[Columns]]) -> list[Batch]:
        pieces = []
        for piece, future in zip(plan.pieces, columns, strict=True):
            file = self._file(piece.row_group.file)
            pieces.append(
                Piece(
                    columns=future.result(),
                    rows=piece.rows,
                    language=self._languages.index(piece.language),
                    teacher=self._teachers.index(file.record.teacher),
                    file=file,
                    group=piece.row_group.group,
                )
            )
        return make_batches(pieces, self._batch_tokens, self._pad_id, plan.random)


def example_ids(origins: Origins, rows: Sequence[int]) -> list[str]:
    """Reads the example ids of some rows of a batch from its files."""
    pieces, groups, reader = origins.piece_B[rows].tolist(), {}, RowGroupReader(["example_id"])
    for piece in set(pieces):
        file, group = origins.groups[piece]
        groups[piece] = reader.read(file, group)["example_id"]
    return [groups[piece][row].as_py() for piece, row in zip(pieces, origins.row_B[rows].tolist(), strict=True)]
