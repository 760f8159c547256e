"""Forward passes in batches of similar length."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from schemas.errors import UserError
from schemas.ragged import batches_by_length, pad
from schemas.secrets import without_secrets
from trainer.evaluation.masked_forward import TOLERANCE
from trainer.evaluation.models import Model

Inputs = dict[str, list[int]]

# The number of lengths to test padding with: even and odd ones, for models that pool.
_TRIED = 4
# The fields of an output that tasks read. The others may be caches, or not tensors at all.
_READ = ("logits", "start_logits", "end_logits", "last_hidden_state", "hidden_states")


def encode(model: Model, tokenizer: PreTrainedTokenizerFast, *texts: Any, **settings: Any) -> Any:
    """Returns the tokenizer's encoding of texts, with token types only if the model distinguishes them."""
    types = (getattr(model.transformers_config, "type_vocab_size", 0) or 0) > 1
    return tokenizer(*texts, truncation=settings.pop("truncation", True), return_token_type_ids=types, **settings)


def rows_of(encoded: Any) -> list[Inputs]:
    """Returns the model's inputs for each encoded text."""
    names = [name for name in ("input_ids", "token_type_ids", "attention_mask") if name in encoded]
    return [dict(zip(names, values, strict=True)) for values in zip(*(encoded[name] for name in names), strict=True)]


@torch.inference_mode()
def forward_by_length(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, inputs: list[Inputs], batch_tokens: int, **options: Any
) -> Iterator[tuple[list[int], Any]]:
    """Yields the numbers of the inputs of each batch, and the model's output for it, padded on the right.

    Inputs without tokens are skipped. A test determines first whether padding affects the other tokens; if it does, each
    batch has inputs of one length, so that no output depends on the rest of its batch.

    Args:
      batch_tokens: the most tokens of a padded batch, unless a single input has more.
      options: further arguments of the model, such as `output_hidden_states`.

    Raises:
      UserError: an output has NaN or infinite values, or lacks hidden states that the options ask for.
    """
    lengths = np.array([len(one["input_ids"]) for one in inputs], np.int64)
    fillers = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}

    def run(rows: np.ndarray) -> Any:
        batch = {}
        for name in inputs[rows[0]]:
            values = np.concatenate([np.array(inputs[row][name], np.int64) for row in rows])
            padded, _ = pad(values, lengths[rows], fillers.get(name, 0))
            batch[name] = torch.from_numpy(padded).to(model.device)
        return model(**batch, **options)

    sets = [np.flatnonzero(lengths)]
    if _padding_matters(run, lengths):
        sets = [np.flatnonzero(lengths == length) for length in np.unique(lengths[lengths > 0])]
    for same in sets:
        for rows in batches_by_length(lengths, same, batch_tokens):
            output = run(rows)
            _check_output(model, output, lengths[rows], **options)
            yield rows.tolist(), output


def gives_hidden_states(output: Any, batch_size: int, length: int) -> bool:
    """Returns whether a model's output has a hidden state for each token in all layers."""
    states: Any = getattr(output, "hidden_states", None)
    return bool(states) and all(state.shape == (batch_size, length, states[0].shape[-1]) for state in states)


def _check_output(
    model: PreTrainedModel, output: Any, lengths_B: np.ndarray, output_hidden_states: bool = False
) -> None:
    where = without_secrets(str(model.name_or_path))
    if output_hidden_states and not gives_hidden_states(output, len(lengths_B), int(lengths_B.max())):
        raise UserError(f"{where}: does not give one hidden state for each token; leave the model, or the task, out")
    # Values at padding may be anything.
    is_token_BL = torch.from_numpy(np.arange(lengths_B.max()) < lengths_B[:, None]).to(model.device)
    for tensor in _tensors(output):
        read = tensor[is_token_BL] if tensor.ndim == 3 and tensor.shape[:2] == is_token_BL.shape else tensor
        if not torch.isfinite(read).all():
            raise UserError(
                f"{where}: gives NaN or infinite values; its weights are damaged, or fine-tuning diverged, which a lower "
                "fine_tuning.learning_rate may prevent"
            )


def _padding_matters(run: Callable[[np.ndarray], Any], lengths: np.ndarray) -> bool:
    """Returns whether batching a sequence with a longer one changes its output. Tests a few of the lengths."""
    different, rows = np.unique(lengths, return_index=True)
    rows = rows[different > 0]
    return any(not _same(run(rows[[place]]), run(rows[[place, -1]])) for place in range(len(rows) - 1)[:_TRIED])


def _same(alone: Any, beside: Any) -> bool:
    """Returns whether a model's output for a sequence equals the first of its output for several, ignoring padding."""
    return all(
        bool(((one - several[:1][tuple(map(slice, one.shape))]).abs() <= TOLERANCE * one.abs().max()).all())
        for one, several in zip(_tensors(alone), _tensors(beside), strict=True)
    )


def _tensors(output: Any) -> list[torch.Tensor]:
    """Returns the tensors of a model's output that tasks read."""
    values = [getattr(output, name, None) for name in _READ]
    return [
        tensor
        for value in values
        if value is not None
        for tensor in ([value] if isinstance(value, torch.Tensor) else value)
    ]
