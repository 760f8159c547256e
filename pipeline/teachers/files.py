"""Which files a teacher is loaded from, as far as that can be told without reading them."""

import os
from pathlib import Path
from typing import Any

from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from pipeline.config import TeacherConfig


def files_of(teacher: TeacherConfig) -> list[Any] | None:
    """For each of its models the names, sizes and times of the files of a folder, or a hub repository's commit, as JSON values.

    None if these do not say what is loaded: its own code may lie elsewhere, and the hub may be out of reach.
    """
    if teacher.trust_remote_code:
        return None
    states = [_in_folder(part.model) if os.path.isdir(part.model) else _commit(part) for part in teacher.parts]
    return None if None in states else states


def _in_folder(folder: str) -> list[list[Any]]:
    """Name, size and time of change (ns) of every file below a folder that is not hidden."""
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
