"""What a path means, in configurations and on command lines: a local path or an fsspec URL.

With `://` it is a URL, of which `file://` is another way to write a local path. A local path is
taken as it is written but for a `~` at its beginning.
"""

import errno
import os
import re
import tempfile
from typing import Annotated

from pydantic import AfterValidator

from schemas.errors import UserError

_LOCAL_URL = re.compile(r"(?:file|local)://")
# `schemas.storage` writes a temporary neighbour first, whose name is so much longer.
_TEMPORARY_CHARACTERS = 38


def local_path(value: str) -> str | None:
    """The path on this machine that `value` means; None where it is the URL of something else."""
    if _LOCAL_URL.match(value):
        return _LOCAL_URL.sub("", value, count=1)
    return None if "://" in value else os.path.expanduser(value)


def expanded(value: str) -> str:
    """`value` with the home folder for a leading `~`. ValueError where it is empty or no UTF-8."""
    if not value.strip():
        raise ValueError("is empty; give a path or a URL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{ascii(value)} is not UTF-8; rename it") from None
    local = local_path(value)
    return value if local is None else local


# The type of every field of a configuration that is a path, a URL, or a hub id.
PathOrUrl = Annotated[str, AfterValidator(expanded)]


def path_option(value: str, option: str) -> str:
    """The same for a command-line option. UserError."""
    try:
        return expanded(value)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None


def check_output_folder(folder: str) -> None:
    """Refuses a local folder that cannot be made or written into (UserError); makes nothing. URLs pass."""
    local = local_path(folder)
    if local is not None:
        _check_folder(folder, os.path.abspath(local))


def check_output_file(file: str) -> None:
    """The same for a file, which may be there already: it would be replaced."""
    local = local_path(file)
    if local is None:
        return
    place = os.path.abspath(local)
    if os.path.isdir(place):
        raise UserError(f"{file}: is a folder, not a file; choose another name")
    _check_folder(file, os.path.dirname(place))
    try:
        _exists(place + "." * _TEMPORARY_CHARACTERS)
    except OSError as error:
        raise UserError(f"{file}: cannot be made ({error.strerror}); choose another name") from None


def _check_folder(shown: str, place: str) -> None:
    try:
        while not _exists(place):
            place = os.path.dirname(place)
    except OSError as error:
        raise UserError(f"{shown}: cannot be made ({error.strerror}); choose another output") from None
    if not os.path.isdir(place):
        raise UserError(f"{shown}: {place} is a file, not a folder; choose another output")
    try:
        # Tried, since permission bits say little: of root, of a read-only mount, of /proc. It has no name to leave.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(f"{shown}: {place} cannot be written into ({error.strerror}); choose another output") from None


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True
