"""Forward passes in batches of similar length."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerFast

from schemas.ragged import batches_by_length
from trainer.evaluation.models import Model

Inputs = dict[str, list[int]]


def encode(model: Model, tokenizer: PreTrainedTokenizerFast, *texts: Any, **settings: Any) -> Any:
    """What `tokenizer` makes of texts, with token types only where the model tells them apart."""
    types = (getattr(model.transformers_config, "type_vocab_size", 0) or 0) > 1
    return tokenizer(*texts, truncation=settings.pop("truncation", True), return_token_type_ids=types, **settings)


def rows_of(encoded: Any) -> list[Inputs]:
    """The model's inputs of each text that was encoded."""
    names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in encoded]
    return [dict(zip(names, values, strict=True)) for values in zip(*(encoded[name] for name in names), strict=True)]


@torch.inference_mode()
def forward_by_length(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, inputs: list[Inputs], batch_tokens: int, **options: Any
) -> Iterator[tuple[list[int], Any]]:
    """The numbers of the inputs of each batch, and the model's output for it, padded on the right.

    Inputs without tokens are left out.

    Args:
      batch_tokens: the most tokens of a padded batch, unless a single input has more.
      options: further arguments of the model, such as `output_hidden_states`.
    """
    collate = DataCollatorWithPadding(tokenizer)
    lengths = np.array([len(one["input_ids"]) for one in inputs])
    for batch_rows in batches_by_length(lengths, np.flatnonzero(lengths), batch_tokens):
        rows = batch_rows.tolist()
        batch = collate([inputs[row] for row in rows])
        yield rows, model(**{name: values.to(model.device) for name, values in batch.items()}, **options)
