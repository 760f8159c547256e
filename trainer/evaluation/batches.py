"""Batches of masked text for a model.

Legend: B sequences of a batch, L its padded length, M masked tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from schemas.ragged import ranges
from trainer.evaluation.masked_forward import MaskedForward
from trainer.evaluation.masking import MaskedText
from trainer.evaluation.models import Model


class Batch(NamedTuple):
    """One padded batch.

    Attributes:
      ids_BL: int64.
      attention_mask_BL: bool, true where there is no padding.
      rows_M: int64, the batch's masked tokens, as indices into the flattened batch.
      targets: int64 [M], the same tokens as indices into the masked tokens of the text.
    """

    ids_BL: np.ndarray
    attention_mask_BL: np.ndarray
    rows_M: np.ndarray
    targets: np.ndarray


@contextmanager
def forward_of(model: Model, language: str, masked: MaskedText) -> Iterator[MaskedForward]:
    """Yields the model, tested on the first sequence of the text."""
    pad_id = model.tokenizer(language).pad_token_id
    first = masked.ids_T[: masked.lengths_N[0]]
    forward = MaskedForward(model.masked_lm, first, 0 if pad_id is None else pad_id, f"models.{model.name}")
    try:
        yield forward
    finally:
        forward.close()


def batches_of(masked: MaskedText, forward: MaskedForward, batch_tokens: int) -> Iterator[Batch]:
    """Yields batches of all sequences, grouped by similar length."""
    starts_N = np.cumsum(masked.lengths_N) - masked.lengths_N
    # The masked tokens of each sequence, as a range of the masked tokens of the text.
    first_N = np.searchsorted(masked.targets_M, starts_N)
    count_N = np.searchsorted(masked.targets_M, starts_N + masked.lengths_N) - first_N
    for chosen in forward.batches(masked.lengths_N, batch_tokens):
        lengths_B = masked.lengths_N[chosen]
        ids_BL, mask_BL = forward.pad(masked.ids_T[ranges(starts_N[chosen], lengths_B)], lengths_B)
        targets = ranges(first_N[chosen], count_N[chosen])
        row_M = np.repeat(np.arange(len(chosen)), count_N[chosen])
        rows_M = row_M * ids_BL.shape[1] + masked.targets_M[targets] - starts_N[chosen][row_M]
        yield Batch(ids_BL, mask_BL, rows_M, targets)
