"""Filesystems that do not support every operation."""

import errno
from typing import NoReturn


def unsupported(*_: object, **__: object) -> NoReturn:
    """Replaces an operation that a filesystem does not support."""
    raise OSError(errno.ENOTSUP, "Operation not supported")
