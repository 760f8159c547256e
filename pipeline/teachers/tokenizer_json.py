"""What `tokenizer.json` says, and what the pipeline adds to it."""

import re
from typing import Any

from schemas.vocabulary import TRANSFORMERS_ROLES

# The special tokens of a tokenizer, as transformers names them.
ROLE_NAMES = tuple(f"{name}_token" for name in TRANSFORMERS_ROLES)
_FILLER = re.compile("\uffff \\d+")


def unreachable(merged: int) -> str:
    """The vocabulary's entry for a merged id that no text gives.

    No model sees a space, because every family cuts text at spaces or writes them as `▁` or `Ġ`. So no model can find
    this entry, which has a space. U+FFFF, a noncharacter, distinguishes it from any entry that a teacher may have.
    """
    return f"\uffff {merged}"


def is_filler(entry: str) -> bool:
    """Whether `unreachable` made it."""
    return _FILLER.fullmatch(entry) is not None


def merged_piece(model: dict[str, Any], left: str, right: str) -> str:
    """What a BPE model (of a `tokenizer.json`) merges two pieces into."""
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")
