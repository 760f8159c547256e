"""A teacher's forward pass, run in the cheapest way that is exact for its architecture.

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

# A row of this many tokens is tried alone, beside a row that is one token longer, and beside the longest row.
_SHORT = 7
# float32 keeps 24 bits; sums of about a thousand terms in another order lose about eight of them. A row or a padding
# token in the wrong place changes logits by amounts of their order of magnitude.
_TOLERANCE = 2.0**-16


class Forward:
    """Logits of a masked LM at chosen positions.

    A forward hook gives the model's head the encoder's output at those positions
    instead of all of it, so every architecture keeps the code of its head. Some architectures
    cannot be run in this way, and in some padding affects the other tokens (through convolutions,
    Fourier transforms or pooling). `try_out` finds out which.

    Attributes:
      head_everywhere: why the head is run at all positions; empty where it is not.
      padding_reaches: how far padding moves the logits of other tokens; 0 where it does not.
        Otherwise the rows of a batch must have one length, and are run without an attention mask.
      concurrent: whether several threads may run it at a time. They may not where the model writes to its modules
        (a Funnel, LTG-BERT), because that would mix their rows.
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
        # The rows that the hook keeps are local to each thread, and set only while it predicts. The hook must not refer
        # to this object, which refers to the model: in such a cycle both would outlive their last user.
        self._wanted = threading.local()
        self._hook = model.base_model.register_forward_hook(partial(_keep_rows, self._wanted))

    def logits(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, rows_M: np.ndarray) -> torch.Tensor:
        """[M, V] at `rows_M`, indices into the flattened batch."""
        return (self._everywhere if self.head_everywhere else self._at_rows)(ids_BL, attention_mask_BL, rows_M)

    @torch.inference_mode()
    def try_out(self, where: str, tokens: np.ndarray, longest: int) -> None:
        """Finds out how the model may be run, on a few tokens, in float32.

        Args:
          where: names the teacher in errors.
          tokens: ordinary token ids of the teacher to try it with.
          longest: tokens of the longest row that it will be given.

        Raises:
          UserError: it does not run on token ids, gives something other than the same finite [B, L, V] logits
            each time, or predicts from what precedes a token alone.
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
        # What is written only at the first run of a length, such as a cache, is written by now.
        before = _state(self._model)
        reach = self._reach_of_padding(where, batches, alone_MV)
        if reach > tolerance:
            self.padding_reaches = reach
        self.concurrent = _same(before, _state(self._model))
        self.head_everywhere = self._fault_of_head(*batches[0], tolerance)

    def _check_looks_ahead(self, where: str, short: np.ndarray, tokens: np.ndarray, alone_MV: torch.Tensor) -> None:
        """Raises UserError if the first token's logits do not depend on the tokens that follow it."""
        # A row of the same first token and the same length.
        other = np.append(short[:1], np.resize(np.roll(tokens, len(tokens) // 3), len(short) - 1))
        if len(short) > 1 and torch.equal(alone_MV[0], self._first(where, other[None])[0]):
            raise UserError(
                f"{where}: what it predicts does not depend on the tokens that follow, so it is no masked LM, or its "
                f"attention does not work on a {self._device.type}"
            )

    def _reach_of_padding(
        self, where: str, batches: list[tuple[np.ndarray, np.ndarray]], alone_MV: torch.Tensor
    ) -> float:
        """How far the logits of a batch's first row differ from those of the row alone. Raises UserError if they vary."""
        reach = 0.0
        for ids_BL, attention_mask_BL in batches:
            rows_M = np.arange(ids_BL.size)[attention_mask_BL.ravel()]
            # A token whose logits are NaN is reported when it is predicted, with the example that has it.
            try:
                logits_MV, again_MV = (
                    self._everywhere(ids_BL, attention_mask_BL, rows_M).nan_to_num() for _ in range(2)
                )
            except Exception as error:  # It takes no attention mask, or none of two rows.
                first_line(error)  # Raises where it is only that memory was used up.
                return np.inf
            if not torch.equal(logits_MV, again_MV):
                raise UserError(
                    f"{where}: its model gives other predictions each time that it is run; it cannot be used"
                )
            reach = max(reach, float((logits_MV[: len(alone_MV)] - alone_MV).abs().max()))
        return reach

    def close(self) -> None:
        """Leaves the model as it was."""
        self._hook.remove()

    def _first(self, where: str, ids_BL: np.ndarray) -> torch.Tensor:
        """float32 [B*L, V]: the logits of a first try. Raises UserError if there are none."""
        try:
            output = self._model(input_ids=torch.from_numpy(ids_BL.astype(np.int64)).to(self._device))
            logits: Any = getattr(output, "logits", None)
            shape = tuple(getattr(logits, "shape", ()))
        except Exception as error:  # Whatever an unknown architecture makes of it.
            raise UserError(
                f"{where}: its model does not run on token ids alone ({type(error).__name__}: {first_line(error)})"
            ) from None
        if len(shape) != 3 or shape[:2] != ids_BL.shape:
            raise UserError(f"{where}: its model gives no logits at each token (their shape is {shape})")
        logits = logits.flatten(0, 1).float()
        if not torch.isfinite(logits).all():
            raise UserError(f"{where}: its model gives NaN or infinite logits; its weights are damaged")
        return logits

    def _fault_of_head(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, tolerance: float) -> str:
        """How the head's logits differ when it is run at some positions only; empty where they do not."""
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
        # Without padding there is nothing to hide, and without a mask attention is faster, and transformers does not make
        # the host wait while it looks whether the mask hides anything.
        if not (self.padding_reaches or attention_mask_BL.all()):
            mask["attention_mask"] = torch.from_numpy(attention_mask_BL.astype(np.int64)).to(self._device)
        return self._model(input_ids=torch.from_numpy(ids_BL.astype(np.int64)).to(self._device), **mask)


def _batch(short: np.ndarray, other: np.ndarray, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    return pad(np.concatenate([short, other]), np.array([len(short), len(other)]), pad_id)


def _state(model: torch.nn.Module) -> list:
    """Whatever a forward pass may write to the modules."""
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
