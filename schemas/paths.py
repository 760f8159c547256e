"""What a path means, in configurations and on command lines: a local path or an fsspec URL.

With `://` it is a URL. Without, it is a local path, taken as it is written but for a `~`
at its beginning.
"""

import errno
import os
import tempfile
from typing import Annotated

from pydantic import AfterValidator

from schemas.errors import UserError


def expanded(value: str) -> str:
    """`value` with the home folder for a leading `~`. ValueError where it is empty or no UTF-8."""
    if not value.strip():
        raise ValueError("is empty; give a path or a URL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{ascii(value)} is not UTF-8; rename it") from None
    return value if "://" in value else os.path.expanduser(value)


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
    if "://" in folder:
        return
    place = os.path.abspath(folder)
    try:
        while not _exists(place):
            place = os.path.dirname(place)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another output") from None
    if not os.path.isdir(place):
        raise UserError(f"{folder}: {place} is a file, not a folder; choose another output")
    try:
        # Tried, since permission bits say little: of root, of a read-only mount, of /proc. It has no name to leave.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise UserError(f"{folder}: {place} cannot be written into ({error.strerror}); choose another output") from None


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True
