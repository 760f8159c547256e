"""From Arrow rows to padded tensors, column by column.

Legend: N rows, B rows of one batch, L padded length, M masked positions, K top-k.
"""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from schemas.ragged import batches_by_length, flatten, pad, ranges


@dataclass(frozen=True)
class Batch:
    """One batch; ids are merged ids.

    Attributes:
      input_ids_BL, attention_mask_BL: int64, padded on the right.
      rows_M: int64, indices of the masked positions in the flattened [B*L].
      labels_M: int64.
      language_M: int64, index into the reader's `languages`.
      label_logprobs_M: float32, the teacher's; NaN where no teacher was run (K = 0).
      topk_ids_MK, topk_logprobs_MK: int64 and float32; -inf for a prediction outside the vocabulary.
    """

    input_ids_BL: torch.Tensor
    attention_mask_BL: torch.Tensor
    rows_M: torch.Tensor
    labels_M: torch.Tensor
    language_M: torch.Tensor
    label_logprobs_M: torch.Tensor
    topk_ids_MK: torch.Tensor
    topk_logprobs_MK: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


class Rows:
    """N rows of a table as flat arrays, from which batches are cut without touching single rows."""

    def __init__(self, table: pa.Table, languages: list[str], top_k: int, pad_id: int):
        self._pad_id = pad_id
        self._ids, self._id_starts, self.lengths = flatten(table["input_ids"])
        self._positions, self._starts, self.counts = flatten(table["masked_positions"])
        self._labels = flatten(table["labels"])[0]
        shape = (len(self._labels), top_k)
        self._topk_ids = flatten(table["topk_ids"])[0].reshape(shape)
        self._topk_logprobs = flatten(table["topk_logprobs"])[0].reshape(shape)
        self._label_logprobs = flatten(table["label_logprobs"])[0] if top_k else np.full(shape[0], np.nan, np.float32)
        index = pc.index_in(table["language"], value_set=pa.array(languages))
        self._language = index.to_numpy().astype(np.int64)

    def batches(self, batch_tokens: int, order: np.ndarray) -> list[np.ndarray]:
        """Row indices of each batch: rows by length (ties in `order`), cut at `batch_tokens` padded tokens."""
        return batches_by_length(self.lengths, order, batch_tokens)

    def collate(self, rows: np.ndarray) -> Batch:
        """The batch of the given rows."""
        counts = self.counts[rows]
        ids_BL, inside_BL = pad(self._ids, self._id_starts[rows], self.lengths[rows], self._pad_id)
        targets = ranges(self._starts[rows], counts)
        row_M = np.repeat(np.arange(len(rows)), counts)
        return Batch(
            torch.from_numpy(ids_BL),
            torch.from_numpy(inside_BL.astype(np.int64)),
            torch.from_numpy(row_M * ids_BL.shape[1] + self._positions[targets]),
            torch.from_numpy(self._labels[targets].astype(np.int64)),
            torch.from_numpy(self._language[rows][row_M]),
            torch.from_numpy(self._label_logprobs[targets]),
            # A prediction outside a trimmed vocabulary has no probability, so any id does.
            torch.from_numpy(np.maximum(self._topk_ids[targets], 0).astype(np.int64)),
            torch.from_numpy(self._topk_logprobs[targets].astype(np.float32)),
        )
