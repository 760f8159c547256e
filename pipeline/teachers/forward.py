"""Runs a teacher's forward pass in the cheapest way that is exact for its architecture.

Legend: B batch, L padded length, M masked positions, V the teacher's vocabulary.
"""

import operator
import threading
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from schemas.errors import UserError, first_line
from schemas.ragged import pad

# A row of this many tokens is tried alone, and in a batch with a row of equal length, one token longer, or the longest.
_SHORT = 7
# float32 keeps 24 bits; summing about a thousand terms in another order loses about eight of them. A row or padding
# token in the wrong place changes logits by about their own magnitude.
_TOLERANCE = 2.0**-16


class Forward:
    """Logits of a masked LM at chosen positions.

    A forward hook passes only the encoder's output at those positions to the model's head, so
    every architecture keeps the code of its head. Some architectures cannot be run in this way, and
    in some, padding affects the other tokens (through convolutions, Fourier transforms or pooling).
    `try_out` finds out which.

    Attributes:
      head_everywhere: why the head is run at all positions; empty if it is not.
      padding_reaches: how far padding moves the logits of other tokens; 0 if it does not.
        Otherwise the rows of a batch must have the same length, and are run without an attention mask.
      concurrent: whether several threads may run it at a time. They may not if the model writes to its modules
        (Funnel, LTG-BERT), because that would mix their rows.
      vocabulary: V, the columns of the logits.
    """

    def __init__(self, model: PreTrainedModel, device: torch.device, pad_id: int):
        self._model = model
        self._device = device
        self._pad_id = pad_id
        self.head_everywhere = ""
        self.padding_reaches = 0.0
        self.concurrent = True
        self.vocabulary = 0
        # The rows that the hook keeps are thread-local, and set only during a prediction. The hook must not refer to
        # this object, which refers to the model: such a cycle would keep both alive after their last use.
        self._wanted = threading.local()
        self._hook = model.base_model.register_forward_hook(partial(_keep_rows, self._wanted))

    def logits(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, rows_M: np.ndarray) -> torch.Tensor:
        """Returns [M, V] at `rows_M`, indices into the flattened batch."""
        return (self._everywhere if self.head_everywhere else self._at_rows)(ids_BL, attention_mask_BL, rows_M)

    @torch.inference_mode()
    def try_out(self, where: str, tokens: np.ndarray, longest: int) -> None:
        """Finds out how the model may be run, on a few tokens, in float32.

        Args:
          where: names the teacher in errors.
          tokens: ordinary token ids of the teacher to try it with.
          longest: tokens of the longest row that it will be given.

        Raises:
          UserError: it does not run on token ids, does not give the same finite [B, L, V] logits each time, or
            predicts only from the tokens before a position.
        """
        sizes = [min(size, longest) for size in (_SHORT, _SHORT + 1, longest)]
        # Different tokens, so that a mix-up shows.
        row = np.resize(tokens[np.linspace(0, len(tokens) - 1, longest).astype(np.int64)], longest)
        short = row[-sizes[0] :]
        alone_MV = self._first(where, short[None])
        self._check_looks_ahead(where, short, tokens, alone_MV)
        self.vocabulary = alone_MV.shape[1]
        tolerance = _TOLERANCE * float(alone_MV.abs().max())
        # In each batch the first row is the short one, padded to the other's length.
        batches = [_batch(short, row[:size], self._pad_id) for size in sizes]
        # By now, caches and other state that only the first run of a length writes have been written.
        before = _state(self._model)
        reach = self._reach_of_padding(where, batches, alone_MV)
        if reach > tolerance:
            self.padding_reaches = reach
        self.concurrent = _same(before, _state(self._model))
        self.head_everywhere = self._fault_of_head(*batches[0], tolerance)

    def _check_looks_ahead(self, where: str, short: np.ndarray, tokens: np.ndarray, alone_MV: torch.Tensor) -> None:
        """Raises UserError if the first token's logits do not depend on the tokens that follow it."""
        # A row with the same first token and the same length.
        other = np.append(short[:1], np.resize(np.roll(tokens, len(tokens) // 3), len(short) - 1))
        if len(short) > 1 and torch.equal(alone_MV[0], self._first(where, other[None])[0]):
            raise UserError(
                f"{where}: its predictions do not depend on the tokens that follow, so it is not a masked LM, or its "
                f"attention does not work on {self._device.type}"
            )

    def _reach_of_padding(
        self, where: str, batches: list[tuple[np.ndarray, np.ndarray]], alone_MV: torch.Tensor
    ) -> float:
        """Returns how far a batch changes the logits of its first row. Raises UserError if repeated runs differ."""
        reach = 0.0
        for ids_BL, attention_mask_BL in batches:
            rows_M = np.arange(ids_BL.size)[attention_mask_BL.ravel()]
            # A token whose logits are NaN is reported when it is predicted, with the example that has it.
            try:
                logits_MV, again_MV = (
                    self._everywhere(ids_BL, attention_mask_BL, rows_M).nan_to_num() for _ in range(2)
                )
            except Exception as error:  # It takes no attention mask, or none for two rows.
                first_line(error)  # Raises if the error is only that memory is full.
                return np.inf
            if not torch.equal(logits_MV, again_MV):
                raise UserError(
                    f"{where}: its model gives different predictions for the same text each time; it cannot be used"
                )
            reach = max(reach, float((logits_MV[: len(alone_MV)] - alone_MV).abs().max()))
        return reach

    def close(self) -> None:
        """Removes the hook from the model."""
        self._hook.remove()

    def _first(self, where: str, ids_BL: np.ndarray) -> torch.Tensor:
        """Returns float32 [B*L, V], the logits of a first run. Raises UserError if they are missing or not finite."""
        try:
            output = self._model(input_ids=torch.from_numpy(ids_BL.astype(np.int64)).to(self._device))
            logits: Any = getattr(output, "logits", None)
            shape = tuple(getattr(logits, "shape", ()))
        except Exception as error:  # An unknown architecture may raise anything.
            raise UserError(
                f"{where}: its model does not run on token ids alone ({type(error).__name__}: {first_line(error)})"
            ) from None
        if len(shape) != 3 or shape[:2] != ids_BL.shape:
            raise UserError(f"{where}: its model does not give logits for every token (their shape is {shape})")
        logits = logits.flatten(0, 1).float()
        if not torch.isfinite(logits).all():
            raise UserError(f"{where}: its model gives NaN or infinite logits; its weights are damaged")
        return logits

    def _fault_of_head(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, tolerance: float) -> str:
        """Says how the head's logits differ if it is run at only some positions; empty if they do not."""
        rows_M = np.array([1, 3, ids_BL.shape[1], ids_BL.size - 1]) % ids_BL.size
        expected_MV = self._everywhere(ids_BL, attention_mask_BL, rows_M).float()
        try:
            logits_MV = self._at_rows(ids_BL, attention_mask_BL, rows_M).float()
        except Exception as error:
            return f"failed ({type(error).__name__}: {first_line(error)})"
        if logits_MV.shape != expected_MV.shape:
            return f"gave {tuple(logits_MV.shape)} logits"
        difference = float((logits_MV - expected_MV).abs().max())
        return f"gave logits that differ by {difference:.3g}" if difference > tolerance else ""

    def _at_rows(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, rows_M: np.ndarray) -> torch.Tensor:
        self._wanted.rows_M = torch.from_numpy(rows_M).to(self._device)
        try:
            return self._output(ids_BL, attention_mask_BL).logits[0]
        finally:
            self._wanted.rows_M = None

    def _everywhere(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, rows_M: np.ndarray) -> torch.Tensor:
        logits_BLV = self._output(ids_BL, attention_mask_BL).logits
        return logits_BLV.flatten(0, 1)[torch.from_numpy(rows_M).to(self._device)]

    def _output(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray):
        mask = {}
        # Without padding there is nothing to mask. Without a mask, attention is faster, and transformers does not make
        # the host wait to check whether the mask hides anything.
        if not (self.padding_reaches or attention_mask_BL.all()):
            mask["attention_mask"] = torch.from_numpy(attention_mask_BL.astype(np.int64)).to(self._device)
        return self._model(input_ids=torch.from_numpy(ids_BL.astype(np.int64)).to(self._device), **mask)


def _batch(short: np.ndarray, other: np.ndarray, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    return pad(np.concatenate([short, other]), np.array([len(short), len(other)]), pad_id)


def _state(model: torch.nn.Module) -> list:
    """Returns all the state that a forward pass may write to the modules."""
    return [
        value
        for module in model.modules()
        for part in (vars(module), module._buffers, module._modules)
        for value in part.values()
    ]


def _same(before: list, after: list) -> bool:
    return len(before) == len(after) and all(map(operator.is_, before, after))


def _keep_rows(wanted: threading.local, module, arguments, output):
    rows_M = getattr(wanted, "rows_M", None)
    if rows_M is not None:
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[rows_M][None]
    return output
