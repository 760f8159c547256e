"""The forward pass of any masked LM at a few positions, in the cheapest way that is exact for its architecture.

Legend: N sequences, B of one batch, L padded length, M predicted positions, V the model's vocabulary.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from schemas.errors import UserError
from schemas.ragged import batches_by_length, pad

# float32 keeps 24 bits; summing about a thousand terms in another order loses about eight of them. A row or a padding token
# in the wrong place changes logits by about their own magnitude.
TOLERANCE = 2.0**-16


class MaskedForward:
    """A masked LM whose head runs at chosen positions only.

    A forward hook passes only the encoder's output at those positions to the head, so every architecture keeps the code of
    its head. The model is tested on a sequence first. If the head then gives different logits than when it runs at all
    positions, it always runs at all of them. If padding affects the other tokens (through convolutions, Fourier transforms
    or pooling), each batch has sequences of one length and no attention mask.

    Args:
      ids: integers [L], a sequence with its special tokens, to test the model with.
      pad_id: the padding token.
      where: names the model in errors.

    Raises:
      UserError: the model does not give finite logits at each token.
    """

    def __init__(self, model: PreTrainedModel, ids: np.ndarray, pad_id: int, where: str):
        self._model = model
        self._pad_id = pad_id
        self.padding_matters = False
        self.head_everywhere = True
        # The hook must not refer to this object: that cycle would keep the model alive after its last use.
        self._wanted = SimpleNamespace(rows_M=None)
        self._hook = model.base_model.register_forward_hook(partial(_keep_rows, self._wanted))
        self._try_out(np.resize(ids, max(8, len(ids))), where)

    def close(self) -> None:
        """Removes the hook from the model."""
        self._hook.remove()

    def batches(self, lengths_N: np.ndarray, max_tokens: int) -> list[np.ndarray]:
        """Returns the sequence indices of each batch, grouped by length, with at most `max_tokens` padded tokens per batch."""
        sets = [np.arange(len(lengths_N))]
        if self.padding_matters:
            sets = [np.flatnonzero(lengths_N == length) for length in np.unique(lengths_N)]
        return [batch for same in sets for batch in batches_by_length(lengths_N, same, max_tokens)]

    def pad(self, ids: np.ndarray, lengths_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the concatenated ids of sequences as [B, L], and bool [B, L], true where there is no padding."""
        return pad(ids, lengths_B, self._pad_id)

    @torch.inference_mode()
    def logits(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, rows_M: np.ndarray) -> torch.Tensor:
        """Returns float32 [M, V], on the model's device, at `rows_M`, indices into the flattened batch."""
        index_M = torch.from_numpy(rows_M).to(self._model.device)
        mask_BL = None if self.padding_matters else attention_mask_BL
        if self.head_everywhere:
            return self._run(ids_BL, mask_BL).flatten(0, 1)[index_M].float()
        self._wanted.rows_M = index_M
        try:
            return self._run(ids_BL, mask_BL)[0].float()
        finally:
            self._wanted.rows_M = None

    def log_probabilities(
        self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, rows_M: np.ndarray, labels_M: np.ndarray
    ) -> np.ndarray:
        """Returns float64 [M], in nats, of the tokens `labels_M` at `rows_M`."""
        logits_MV = self.logits(ids_BL, attention_mask_BL, rows_M)
        labels = torch.from_numpy(labels_M.astype(np.int64)).to(logits_MV.device)
        return -functional.cross_entropy(logits_MV, labels, reduction="none").double().cpu().numpy()

    def _run(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray | None) -> torch.Tensor:
        device = self._model.device
        mask = {}
        if attention_mask_BL is not None:
            mask["attention_mask"] = torch.from_numpy(attention_mask_BL.astype(np.int64)).to(device)
        output: Any = self._model(input_ids=torch.from_numpy(ids_BL.astype(np.int64)).to(device), **mask)
        return output.logits

    @torch.inference_mode()
    def _try_out(self, ids: np.ndarray, where: str) -> None:
        # The logits of two sequences of one length, at all positions and without an attention mask, are the reference for
        # every other way.
        size = len(ids) // 2
        both_BL, whole_BL = np.stack([ids[:size], ids[-size:]]), np.ones((2, size), bool)
        expected_BLV = self._run(both_BL, None).float()
        if expected_BLV.shape[:2] != both_BL.shape or not torch.isfinite(expected_BLV).all():
            raise UserError(f"{where}: its model does not give finite logits for every token; it cannot be evaluated")
        tolerance = TOLERANCE * float(expected_BLV.abs().max())
        expected_MV = expected_BLV.flatten(0, 1)
        self.padding_matters, self.head_everywhere = True, False
        rows_M = np.array([1, size - 1, size, size + 2])
        self.head_everywhere = not self._gives(expected_MV[rows_M], tolerance, both_BL, whole_BL, rows_M)
        # Batch the first sequence with one that is one token longer, and with one that is twice as long.
        self.padding_matters = False
        rows_M = np.array([0, 1, size // 2, size - 1])
        self.padding_matters = not all(
            self._gives(
                expected_MV[rows_M],
                tolerance,
                *self.pad(np.append(ids[:size], ids[-longer:]), np.array([size, longer])),
                rows_M,
            )
            for longer in (size + 1, len(ids))
        )

    def _gives(self, expected_MV: torch.Tensor, tolerance: float, *arguments: np.ndarray) -> bool:
        try:
            logits_MV = self.logits(*arguments)
        except Exception:  # The head needs all positions, or the model takes no attention mask.
            return False
        return logits_MV.shape == expected_MV.shape and bool(((logits_MV - expected_MV).abs() <= tolerance).all())


def _keep_rows(wanted: SimpleNamespace, module: torch.nn.Module, arguments: Any, output: Any) -> Any:
    if wanted.rows_M is not None:
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[wanted.rows_M][None]
    return output
