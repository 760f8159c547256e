"""Sizes that a model's configuration may have."""

from schemas.errors import UserError

# Of numbers whose names end so, the largest that any model has is far below these.
_SIZES = ("layers", "blocks", "groups", "heads", "size", "dim", "d_model")
_MOST_PARTS, _LARGEST = 10_000, 10_000_000


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
