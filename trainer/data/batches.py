"""From Arrow rows to padded tensors, column by column.

Legend: N rows, B rows of one batch, L padded length, M masked positions, K top-k, S tail samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from schemas.predictions import PredictionFile
from schemas.ragged import batches_by_length, pad


@dataclass(frozen=True)
class Batch:
    """One batch; ids are merged ids.

    Attributes:
      input_ids_BL, attention_mask_BL: int32 and bool, padded on the right.
      rows_M: int64, indices of the masked positions in the flattened [B * L].
      labels_M: int32.
      language_M, teacher_M: int64, indices into the reader's `languages` and `teachers`.
      label_logprobs_M: float32, the teacher's; NaN if no teacher ran (K = 0).
      topk_ids_MK, topk_logprobs_MK: int32 and float16; -1 and -inf for a prediction outside the vocabulary.
      tail_ids_MS: int32; -1 for a sample outside the vocabulary. S = 0 if the samples are not read.
      tokens: how many, without padding.
      origins: the source of each row, to name rows at fault: (file, row group, row in it).
    """

    input_ids_BL: torch.Tensor
    attention_mask_BL: torch.Tensor
    rows_M: torch.Tensor
    labels_M: torch.Tensor
    language_M: torch.Tensor
    teacher_M: torch.Tensor
    label_logprobs_M: torch.Tensor
    topk_ids_MK: torch.Tensor
    topk_logprobs_MK: torch.Tensor
    tail_ids_MS: torch.Tensor
    tokens: int
    origins: "Origins"

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on another device."""
        names = (field.name for field in fields(self) if field.type is torch.Tensor)
        tensors: dict[str, Any] = {name: to_device(getattr(self, name), device) for name in names}
        return replace(self, **tensors)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copies a CPU tensor to a device without waiting for a GPU's pending work, as a copy from unpinned memory would."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


@dataclass(frozen=True)
class Origins:
    """(file, row group) of each piece of a pool, and each row's piece and row in the row group."""

    groups: Sequence[tuple[PredictionFile, int]]
    piece_B: np.ndarray
    row_B: np.ndarray


_GOLD = {"input_ids": np.int32, "masked_positions": np.int32, "labels": np.int32}
_TEACHER = {"label_logprobs": np.float32, "topk_ids": np.int32, "topk_logprobs": np.float16}
_TAIL = {"tail_ids": np.int32}
_DTYPES = _GOLD | _TEACHER | _TAIL


def columns_read(top_k: int, tail_samples: int = 0) -> list[str]:
    """The columns (`schemas.rows`) to read: the teacher's only if K > 0, samples only if S > 0."""
    return [*_GOLD, *(_TEACHER if top_k else ()), *(_TAIL if tail_samples else ())]


class Columns:
    """N rows of a table.

    Each column is an Arrow binary array whose entries are the bytes of a row's values. So Arrow copies whole rows,
    while NumPy would gather value by value.
    """

    def __init__(self, columns: dict[str, pa.LargeBinaryArray], top_k: int, tail_samples: int):
        self._columns = columns
        self.top_k = top_k
        self.tail_samples = tail_samples

    @classmethod
    def of(cls, table: pa.Table, top_k: int, tail_samples: int = 0) -> "Columns":
        """Takes the rows of `table`, without the teacher's columns if K = 0 and without the samples if S = 0."""
        names = columns_read(top_k, tail_samples)
        return cls({name: _as_bytes(table[name]) for name in names}, top_k, tail_samples)

    @classmethod
    def gather(cls, parts: Sequence[tuple["Columns", slice]], rows: np.ndarray) -> "Columns":
        """Takes `rows`, in their order, of the concatenated `parts` (consecutive rows of several `Columns`)."""
        first, indices = parts[0][0], pa.array(rows)
        # One column after the other, so that the next column can reuse the memory of a column's parts.
        return cls(
            {
                name: pa.concat_arrays([p._columns[name][s.start : s.stop] for p, s in parts]).take(indices)
                for name in first._columns
            },
            first.top_k,
            first.tail_samples,
        )

    def __len__(self) -> int:
        return len(self._columns["input_ids"])

    def lengths(self, name: str) -> np.ndarray:
        """The number of values of each row in a column: int64 [N]."""
        return np.diff(self._offsets(name))

    def values(self, name: str) -> np.ndarray:
        """The values of all rows, concatenated."""
        offsets = self._offsets(name)
        return np.frombuffer(self._columns[name].buffers()[2], _DTYPES[name])[offsets[0] : offsets[-1]]

    def _offsets(self, name: str) -> np.ndarray:
        """Row n has the values `offsets[n]:offsets[n + 1]` of the column's buffer."""
        column = self._columns[name]
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
        return offsets // np.dtype(_DTYPES[name]).itemsize

    def teachers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The teacher's columns at the M masked positions: [M], [M, K], [M, K]; if K = 0, NaN and two empty arrays."""
        shape = (int(self.lengths("labels").sum()), self.top_k)
        if not self.top_k:
            return np.full(shape[0], np.nan, np.float32), np.empty(shape, np.int32), np.empty(shape, np.float16)
        label_logprobs, topk_ids, topk_logprobs = map(self.values, _TEACHER)
        return label_logprobs, topk_ids.reshape(shape), topk_logprobs.reshape(shape)

    def samples(self) -> np.ndarray:
        """The samples of the tail at the M masked positions: int32 [M, S]."""
        shape = (int(self.lengths("labels").sum()), self.tail_samples)
        return self.values("tail_ids").reshape(shape) if self.tail_samples else np.empty(shape, np.int32)


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one row group; `language` and `teacher` are indices."""

    columns: Columns
    rows: slice
    language: int
    teacher: int
    file: PredictionFile
    group: int


def make_batches(
    pieces: Sequence[Piece], batch_tokens: int, pad_id: int, random: np.random.Generator | None = None
) -> list[Batch]:
    """Returns all rows of the pieces in batches of similar length, each of at most `batch_tokens` padded tokens.

    With `random`, rows of equal length and the batches are in random order. A row longer than `batch_tokens` is its own
    batch.
    """
    parts = [(piece.columns, piece.rows) for piece in pieces]
    lengths_N = np.concatenate([columns.lengths("input_ids")[rows] for columns, rows in parts])
    if not len(lengths_N):
        return []
    order = random.permutation(len(lengths_N)) if random else np.arange(len(lengths_N))
    batches = batches_by_length(lengths_N, order, batch_tokens)
    if random:
        batches = [batches[index] for index in random.permutation(len(batches))]
    # Copy all rows once, in their final order, so that a batch is a slice.
    rows_N = np.concatenate(batches)
    columns = Columns.gather(parts, rows_N)
    lengths_N, counts_N = columns.lengths("input_ids"), columns.lengths("labels")
    sizes = [len(batch) for batch in batches]
    starts = np.cumsum([0, *sizes])[:-1]
    tokens = np.add.reduceat(lengths_N, starts)
    padded = np.maximum.reduceat(lengths_N, starts)
    # The start of each row in its flattened batch.
    begins_N = (np.arange(len(rows_N)) - np.repeat(starts, sizes)) * np.repeat(padded, sizes)

    counts = [piece.rows.stop - piece.rows.start for piece in pieces]
    piece_N = np.repeat(np.arange(len(pieces)), counts)[rows_N]
    row_N = np.concatenate([np.arange(piece.rows.start, piece.rows.stop) for piece in pieces])[rows_N]
    language_N = np.array([piece.language for piece in pieces])[piece_N]
    teacher_N = np.array([piece.teacher for piece in pieces])[piece_N]
    groups = [(piece.file, piece.group) for piece in pieces]

    masked = np.add.reduceat(counts_N, starts).tolist()
    targets = [
        np.repeat(begins_N, counts_N) + columns.values("masked_positions"),
        columns.values("labels"),
        np.repeat(language_N, counts_N),
        np.repeat(teacher_N, counts_N),
        *columns.teachers(),
        columns.samples(),
    ]
    result = []
    ids = columns.values("input_ids")
    for rows, of_ids, *of_targets in zip(
        _slices(sizes), _slices(tokens), *(torch.from_numpy(values).split(masked) for values in targets), strict=True
    ):
        ids_BL, attention_mask_BL = map(torch.from_numpy, pad(ids[of_ids], lengths_N[rows], pad_id))
        origins = Origins(groups, piece_N[rows], row_N[rows])
        rows_M, labels_M, language_M, teacher_M, label_logprobs_M, topk_ids_MK, topk_logprobs_MK, tail_ids_MS = (
            of_targets
        )
        result.append(
            Batch(
                input_ids_BL=ids_BL,
                attention_mask_BL=attention_mask_BL,
                rows_M=rows_M,
                labels_M=labels_M,
                language_M=language_M,
                teacher_M=teacher_M,
                label_logprobs_M=label_logprobs_M,
                topk_ids_MK=topk_ids_MK,
                topk_logprobs_MK=topk_logprobs_MK,
                tail_ids_MS=tail_ids_MS,
                tokens=of_ids.stop - of_ids.start,
                origins=origins,
            )
        )
    return result


def _slices(sizes: Sequence[int] | np.ndarray) -> list[slice]:
    """Consecutive slices of the given sizes."""
    return [slice(start, stop) for start, stop in pairwise(np.cumsum([0, *sizes]).tolist())]


def _as_bytes(column: pa.ChunkedArray) -> pa.LargeBinaryArray:
    """The rows of a list column, each as the bytes of its values, sharing the memory."""
    array = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])
    values, width = array.values, array.type.value_type.bit_width // 8
    offsets = (array.offsets.to_numpy().astype(np.int64) + values.offset) * width
    return pa.Array.from_buffers(
        pa.large_binary(), len(array), [None, pa.py_buffer(offsets), values.buffers()[1] or pa.py_buffer(b"")]
    )
