"""The exception for faults that a user can correct, and how exceptions of libraries become one."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

# Characters that a terminal may not treat as text: control characters and escape sequences, line and paragraph
# separators, marks and overrides of the writing direction, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

# A first line that ends like this, or is a pydantic heading, is meaningless without the next line.
_ANNOUNCES = re.compile(r"(?:[:,(]|\bor|\band)$|^\d+ validation errors? for \S+(?: \S+)?$")
_LONGEST = 500


class UserError(Exception):
    """Bad input. The message is one line that names where the fault is and how to correct it.

    Commands print it and exit with code 2; any other exception is a bug of ours and keeps its traceback.
    """


class ExhaustedError(UserError):
    """Memory or a disk is full, or the output cannot be written: no input works until that is fixed."""


# How a traceback names these and `schemas.corpus.files.ChangedFileError`; errors from other processes arrive as text.
USERS_ERROR = r"(?:User|Exhausted|ChangedFile)Error: "


def printable(text: str) -> str:
    """`text` on one line, safe to show in a terminal even if untrusted: everything but plain text is escaped."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


@contextmanager
def naming_exhaustion() -> Iterator[None]:
    """Turns exceptions about used-up memory, a full disk or a missing temporary folder into an ExhaustedError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if message := _memory(error) or _disk(error):
            raise ExhaustedError(message) from None
        raise


def _memory(error: BaseException) -> str:
    """A message that memory is used up if `error` means that, else empty. Arrow's own error is a MemoryError too."""
    said = _quoted(error)
    words = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory", "bad_alloc")
    of_torch = type(error).__name__ == "OutOfMemoryError"
    if not (of_torch or isinstance(error, MemoryError) or any(word in str(error) for word in words)):
        return ""
    return (
        f"out of memory ({said}); lower batch_tokens (pipeline: also shard_bytes, teachers_in_memory or the number of "
        "workers; trainer: also sampling.shuffle_rows or reader_threads), then run the same command again to go on"
    )


def _disk(error: BaseException) -> str:
    """A message that a disk is full or there is no temporary folder if `error` means that, else empty."""
    said = _quoted(error)
    if "No usable temporary directory" in said:
        return f"{said}; set TMPDIR to a folder that exists, is writable and has free space"
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if not (is_full or "No space left on device" in str(error)):
        return ""
    return (
        f"a disk is full ({said}); free space on it (TMPDIR is the folder for temporary files), then run the same command "
        "again to go on"
    )


def first_line(error: BaseException) -> str:
    """The message of a library's exception, as one line to quote in a `UserError`.

    The first line, and the lines after it if it only announces them. If the message is a bare value, the exception's
    name comes first (`KeyError: 'model'`).

    Raises:
      ExhaustedError: memory was used up, so the input is not at fault.
    """
    if message := _memory(error):
        raise ExhaustedError(message) from None
    return _quoted(error)


def _quoted(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = ""
    while lines and (not said or _ANNOUNCES.search(said)):
        said = f"{said} {lines.pop(0)}".lstrip()
    if " " in said:
        return said[:_LONGEST]
    return f"{type(error).__name__}: {said}"[:_LONGEST] if said else type(error).__name__


def differences(earlier: object, current: object, most: int = 5) -> str:
    """What differs between two JSON values, as `key was X, now Y; ...`; empty if nothing does."""
    old, new = _flat(earlier), _flat(current)
    changed = [
        f"{key} was {old.get(key, 'absent')!r}, now {new.get(key, 'absent')!r}"
        for key in sorted(old.keys() | new.keys())
        if key not in old or key not in new or old[key] != new[key]
    ]
    return "; ".join(changed[:most] + ([f"and {len(changed) - most} more"] if len(changed) > most else []))


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    """Nested dicts and lists as one dict of dotted keys."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {prefix.removesuffix("."): value}
    return {key: leaf for name, inner in value.items() for key, leaf in _flat(inner, f"{prefix}{name}.").items()}
