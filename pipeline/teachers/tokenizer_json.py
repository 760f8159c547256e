"""What the pipeline reads from a `tokenizer.json`, and what it adds."""

import re
from typing import Any

from schemas.vocabulary import TRANSFORMERS_ROLES

# The special tokens of a tokenizer, as transformers names them.
ROLE_NAMES = tuple(f"{name}_token" for name in TRANSFORMERS_ROLES)
_FILLER = re.compile("\uffff \\d+")


def unreachable(merged: int) -> str:
    """Returns the vocabulary entry for a merged id that no text produces.

    No tokenizer model sees a space, because every family cuts text at spaces or writes them as `▁` or `Ġ`. So no model
    can match this entry, which contains a space. U+FFFF, a noncharacter, distinguishes it from any teacher's entry.
    """
    return f"\uffff {merged}"


def is_filler(entry: str) -> bool:
    """Whether `unreachable` made the entry."""
    return _FILLER.fullmatch(entry) is not None


def merged_piece(model: dict[str, Any], left: str, right: str) -> str:
    """Returns the piece that a BPE model (of a `tokenizer.json`) merges two pieces into."""
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")
