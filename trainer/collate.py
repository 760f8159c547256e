"""From Arrow rows to padded tensors, column by column.

Legend: N rows, B rows of one batch, L padded length, M masked positions, K top-k.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch

from schemas.manifest import PredictionFile
from schemas.ragged import batches_by_length, flatten, pad, ranges


@dataclass(frozen=True)
class Batch:
    """One batch; ids are merged ids.

    Attributes:
      input_ids_BL, attention_mask_BL: int32 and bool, padded on the right.
      rows_M: int64, indices of the masked positions in the flattened [B*L].
      labels_M: int32.
      language_M, teacher_M: int64, indices into the reader's `languages` and `teachers`.
      label_logprobs_M: float32, the teacher's; NaN where no teacher was run (K = 0).
      topk_ids_MK, topk_logprobs_MK: int32 and float16; -1 and -inf for a prediction outside the vocabulary.
      tokens: without padding.
      origins: where each row came from, to say which one is at fault: (file, row group, row in it).
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
    tokens: int
    origins: "Origins"

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.type is torch.Tensor}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


@dataclass(frozen=True)
class Origins:
    """(file, row group) of the pieces of a pool, and for each row its piece and row in the row group."""

    groups: Sequence[tuple[PredictionFile, int]]
    piece_B: np.ndarray
    row_B: np.ndarray


@dataclass(frozen=True)
class Columns:
    """N rows as flat arrays. Row n has the values `offsets[n]:offsets[n + 1]` of each.

    Attributes:
      ids, id_offsets: int32 merged ids of the sequences, int64 [N + 1].
      positions, labels, label_logprobs, target_offsets: one value a masked position, int64 [N + 1].
      topk_ids, topk_logprobs: [masked positions, K].
    """

    ids: np.ndarray
    id_offsets: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    label_logprobs: np.ndarray
    topk_ids: np.ndarray
    topk_logprobs: np.ndarray
    target_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.id_offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.id_offsets)

    @cached_property
    def counts(self) -> np.ndarray:
        """Masked positions of each row."""
        return np.diff(self.target_offsets)

    @property
    def _targets(self) -> tuple[np.ndarray, ...]:
        return self.positions, self.labels, self.label_logprobs, self.topk_ids, self.topk_logprobs

    @classmethod
    def of(cls, table: pa.Table, top_k: int) -> "Columns":
        """The rows of `table`; with K = 0 without its teacher's columns."""
        ids, id_starts, lengths = flatten(table["input_ids"])
        positions, starts, counts = flatten(table["masked_positions"])
        shape = (len(positions), top_k)
        if top_k:
            teacher = (flatten(table[name])[0] for name in ("label_logprobs", "topk_ids", "topk_logprobs"))
            label_logprobs, topk_ids, topk_logprobs = teacher
        else:
            label_logprobs = np.full(len(positions), np.nan, np.float32)
            topk_ids, topk_logprobs = np.empty(0, np.int32), np.empty(0, np.float16)
        return cls(
            ids,
            _offsets(lengths),
            positions,
            flatten(table["labels"])[0],
            label_logprobs,
            topk_ids.reshape(shape),
            topk_logprobs.reshape(shape),
            _offsets(counts),
        )

    @classmethod
    def join(cls, parts: Sequence[tuple["Columns", slice]]) -> "Columns":
        """The given consecutive rows of several, one after the other."""
        ids, targets, lengths, counts = [], [], [], []
        for columns, rows in parts:
            lengths.append(columns.lengths[rows])
            counts.append(columns.counts[rows])
            ids.append(columns.ids[columns.id_offsets[rows.start] : columns.id_offsets[rows.stop]])
            inside = slice(columns.target_offsets[rows.start], columns.target_offsets[rows.stop])
            targets.append([column[inside] for column in columns._targets])
        joined = [np.concatenate(column) for column in zip(*targets, strict=True)]
        id_offsets, target_offsets = _offsets(np.concatenate(lengths)), _offsets(np.concatenate(counts))
        return cls(np.concatenate(ids), id_offsets, *joined, target_offsets)

    def take(self, rows: np.ndarray) -> "Columns":
        """The given rows, in that order."""
        lengths, counts = self.lengths[rows], self.counts[rows]
        targets = ranges(self.target_offsets[rows], counts)
        return Columns(
            self.ids[ranges(self.id_offsets[rows], lengths)],
            _offsets(lengths),
            *(column[targets] for column in self._targets),
            _offsets(counts),
        )


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
    """All rows of the pieces in batches of rows of similar length, at most `batch_tokens` padded tokens each.

    With `random` rows of equal length and the batches come in random order. A row longer
    than `batch_tokens` is a batch of its own.
    """
    columns = Columns.join([(piece.columns, piece.rows) for piece in pieces])
    order = random.permutation(len(columns)) if random else np.arange(len(columns))
    batches = batches_by_length(columns.lengths, order, batch_tokens)
    if random:
        batches = [batches[index] for index in random.permutation(len(batches))]
    # Rows are gathered once, in their final order; a batch is then a slice.
    rows = np.concatenate(batches) if batches else np.empty(0, np.int64)
    columns = columns.take(rows)
    sizes = [piece.rows.stop - piece.rows.start for piece in pieces]
    piece_N = np.repeat(np.arange(len(pieces)), sizes)[rows]
    row_N = np.concatenate([np.arange(piece.rows.start, piece.rows.stop) for piece in pieces])[rows]
    language_N = np.array([piece.language for piece in pieces])[piece_N]
    teacher_N = np.array([piece.teacher for piece in pieces])[piece_N]
    groups = [(piece.file, piece.group) for piece in pieces]
    result, stop = [], 0
    for batch in batches:
        start, stop = stop, stop + len(batch)
        lengths, counts = columns.lengths[start:stop], columns.counts[start:stop]
        inside = slice(columns.target_offsets[start], columns.target_offsets[stop])
        ids_BL, inside_BL = pad(columns.ids[columns.id_offsets[start] : columns.id_offsets[stop]], lengths, pad_id)
        row_M = np.repeat(np.arange(len(batch)), counts)
        result.append(
            Batch(
                torch.from_numpy(ids_BL),
                torch.from_numpy(inside_BL),
                torch.from_numpy(row_M * ids_BL.shape[1] + columns.positions[inside]),
                torch.from_numpy(columns.labels[inside]),
                torch.from_numpy(language_N[start:stop][row_M]),
                torch.from_numpy(teacher_N[start:stop][row_M]),
                torch.from_numpy(columns.label_logprobs[inside]),
                torch.from_numpy(columns.topk_ids[inside]),
                torch.from_numpy(columns.topk_logprobs[inside]),
                int(lengths.sum()),
                Origins(groups, piece_N[start:stop], row_N[start:stop]),
            )
        )
    return result


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])
