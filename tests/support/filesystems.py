"""Filesystems that cannot do everything."""

import errno
from typing import NoReturn


def unsupported(*_: object, **__: object) -> NoReturn:
    """In place of what a filesystem does not support."""
    raise OSError(errno.ENOTSUP, "Operation not supported")
