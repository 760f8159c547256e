"""Names of languages and teachers: restricted, because they become file names, columns and table cells."""

import re
from typing import Annotated

from pydantic import AfterValidator

_MOST = 100
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{_MOST - 1}}}")


def is_name(text: str) -> bool:
    """Whether `text` can name a language or a teacher: a plain file name, never a path."""
    return _NAME.fullmatch(text) is not None


def _checked(text: str) -> str:
    if not is_name(text):
        shown = text if len(text) <= _MOST else text[:_MOST] + "..."
        raise ValueError(
            f"{shown!r} cannot be a name; use at most {_MOST} letters (A-Z, a-z), digits, `_`, `.` and `-`, beginning "
            "with a letter or digit"
        )
    return text


Name = Annotated[str, AfterValidator(_checked)]
