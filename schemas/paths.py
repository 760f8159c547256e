"""Paths in configurations and on command lines: local paths or fsspec URLs.

A path with `://` is a URL; `file://` is another way to write a local path. A local path is taken literally, except for
a leading `~`.
"""

import errno
import os
import re
import tempfile
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.errors import UserError

_LOCAL_URL = re.compile(r"(?:file|local)://")
# `schemas.storage` first writes a temporary file, whose name is this many characters longer.
_TEMPORARY_CHARACTERS = 38


def local_path(value: str) -> str | None:
    """The path on this machine that `value` means; None if it is a URL of something else."""
    if _LOCAL_URL.match(value):
        return _LOCAL_URL.sub("", value, count=1)
    return None if "://" in value else os.path.expanduser(value)


def expanded(value: str) -> str:
    """Returns `value` with a leading `~` expanded. Raises ValueError if it is empty or not UTF-8."""
    if not value.strip():
        raise ValueError("is empty; give a path or a URL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{value!a} is not UTF-8; rename it") from None
    local = local_path(value)
    return value if local is None else local


# The type of every field of a configuration that is a path, a URL, or a hub id.
PathOrUrl = Annotated[str, AfterValidator(expanded)]


def _local(value: str) -> str:
    if "://" in value:
        raise ValueError("must be a local folder; copy it to a bucket afterwards")
    return value


# The type of a field that is a folder on this machine.
LocalFolder = Annotated[PathOrUrl, AfterValidator(_local)]
# The type of a field with one or several such paths; a single one becomes a list of one.
PathsOrUrls = Annotated[
    list[PathOrUrl],
    Field(min_length=1),
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value,
        json_schema_input_type=PathOrUrl | Annotated[list[PathOrUrl], Field(min_length=1)],
    ),
]


def path_option(value: str, option: str) -> str:
    """Like `expanded`, for a command-line option: raises UserError, which names the option."""
    try:
        return expanded(value)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None


def check_output_folder(folder: str) -> None:
    """Raises UserError if a local folder cannot be created or written to. Creates nothing; accepts every URL."""
    local = local_path(folder)
    if local is not None:
        _check_folder(folder, os.path.abspath(local))


def check_output_file(file: str) -> None:
    """Like `check_output_folder`, for a file. It may exist already, because it would be replaced."""
    local = local_path(file)
    if local is None:
        return
    path = os.path.abspath(local)
    if os.path.isdir(path):
        raise UserError(f"{file}: is a folder, not a file; choose another name")
    _check_folder(file, os.path.dirname(path))
    try:
        _exists(path + "." * _TEMPORARY_CHARACTERS)
    except OSError as error:
        raise UserError(f"{file}: cannot be created ({error.strerror}); choose another name") from None


def _check_folder(shown: str, folder: str) -> None:
    try:
        while not _exists(folder):
            folder = os.path.dirname(folder)
    except OSError as error:
        raise UserError(f"{shown}: cannot be created ({error.strerror}); choose another output") from None
    if not os.path.isdir(folder):
        raise UserError(f"{shown}: {folder} is a file, not a folder; choose another output")
    try:
        # Permission bits are not reliable (root, read-only mounts, /proc), so create an unnamed file.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{shown}: {folder} is not writable ({error.strerror}); choose another output") from None


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True
