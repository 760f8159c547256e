"""What a transformers configuration says of a model's size, read without importing transformers."""

from typing import Any

from schemas.errors import UserError

# Of the numbers whose names end like this, the largest that any model has is far below these limits.
_SIZES = ("layers", "blocks", "groups", "heads", "size", "dim", "d_model")
_MOST_PARTS, _LARGEST = 10_000, 10_000_000
# What stands for a model whose positions are computed, so that its configuration gives no limit.
_NO_LIMIT = 1_000_000
# Families that count positions from the padding id on, as RoBERTa does, and so read fewer tokens than they have positions.
_COUNT_FROM_PADDING = {"camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "xmod"}


def check_sizes(where: str, fields: dict) -> None:
    """Refuses a transformers configuration (as a dict) of sizes that would take hours or all memory to build.

    Raises:
      UserError: begins with `where`, and names the field.
    """
    for key, value in fields.items():
        name = str(key)
        if isinstance(value, dict):
            check_sizes(where, value)
        limit = _MOST_PARTS if name.endswith(("layers", "blocks", "groups")) else _LARGEST
        if name.endswith(_SIZES) and isinstance(value, int) and value > limit:
            raise UserError(f"{where} says {name}: {value}, which no model has; correct it")


def longest_sequence(config: Any) -> int:
    """How many tokens a model of this configuration can read, by its positions; 1,000,000 where nothing limits it."""
    positions = getattr(config, "max_position_embeddings", None) or _NO_LIMIT
    counts_from_padding = "roberta" in config.model_type or config.model_type in _COUNT_FROM_PADDING
    has_table = getattr(config, "position_embedding_type", "absolute") != "rotary"
    if not (counts_from_padding and has_table) or config.pad_token_id is None:
        return positions
    return positions - (config.pad_token_id + 1)
