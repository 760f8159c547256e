"""Identifies the files that a teacher is loaded from, without reading them."""

import os
from pathlib import Path
from typing import Any

from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from pipeline.config import TeacherConfig


def files_of(teacher: TeacherConfig) -> list[Any] | None:
    """Returns for each model its folder's file names, sizes and times, or its hub repository's commit, as JSON values.

    None if these do not identify what is loaded: the model's own code may be elsewhere, or the hub unreachable.
    """
    if teacher.trust_remote_code:
        return None
    states = [_in_folder(part.model) if os.path.isdir(part.model) else _commit(part) for part in teacher.parts]
    return None if None in states else states


def _in_folder(folder: str) -> list[list[Any]]:
    """Returns the name, size and modification time (ns) of every file below a folder that is not hidden."""
    files = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if not name.startswith(".") and path.exists():
                status = path.stat()
                files.append([path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns])
    return sorted(files)


def _commit(part: TeacherConfig) -> str | None:
    try:
        return extract_commit_hash(cached_file(part.model, "config.json", revision=part.revision), None)
    except (OSError, ValueError):
        return None
