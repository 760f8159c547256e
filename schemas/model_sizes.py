"""The sizes of a transformers model and its configuration, read without importing transformers."""

from typing import Any

from schemas.errors import UserError

# Limits for numbers whose names end like this, far above those of any real model.
_SIZES = ("layers", "blocks", "groups", "heads", "size", "dim", "d_model")
_MOST_PARTS, _LARGEST = 10_000, 10_000_000
# The limit of a model that computes its positions, so that its configuration has none.
_NO_LIMIT = 1_000_000
# Families that, like RoBERTa, number positions from the padding id on and so read fewer tokens than positions.
_COUNT_FROM_PADDING = {"camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "xmod"}


def check_sizes(where: str, fields: dict) -> None:
    """Refuses a transformers configuration (as a dict) whose model would take hours or all memory to build.

    Raises:
      UserError: begins with `where`, and names the field.
    """
    for key, value in fields.items():
        name = str(key)
        if isinstance(value, dict):
            check_sizes(where, value)
        limit = _MOST_PARTS if name.endswith(("layers", "blocks", "groups")) else _LARGEST
        if name.endswith(_SIZES) and isinstance(value, int) and value > limit:
            raise UserError(f"{where} says {name}: {value}, larger than in any real model; correct it")


def longest_sequence(config: Any) -> int:
    """How many tokens a model of this configuration can read; 1,000,000 if its positions set no limit."""
    positions = getattr(config, "max_position_embeddings", None) or _NO_LIMIT
    counts_from_padding = "roberta" in config.model_type or config.model_type in _COUNT_FROM_PADDING
    has_table = getattr(config, "position_embedding_type", "absolute") != "rotary"
    if not (counts_from_padding and has_table) or config.pad_token_id is None:
        return positions
    return positions - (config.pad_token_id + 1)


def embedding_rows(model: Any) -> int:
    """Returns the number of rows of a model's embedding. A model's own code may not say which module that is."""
    try:
        return model.get_input_embeddings().num_embeddings
    except (NotImplementedError, AttributeError):
        return model.config.vocab_size
