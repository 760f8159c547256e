"""Converts figures to JSON, which has neither NaN nor infinity."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """Returns a JSON value in which numbers that are not finite are null."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
