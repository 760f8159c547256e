"""Turns a library's error about a teacher that it cannot load into one line."""

from pipeline.config import TeacherConfig
from schemas.loading import loading_error


def loading_fault(error: Exception, config: TeacherConfig) -> str:
    """Says in one line why a part of a teacher cannot be loaded, with the remedy if it is known.

    Raises:
      UserError: memory is full.
    """
    if "trust_remote_code" in str(error) and not config.trust_remote_code:
        return "it needs its own Python code; set `trust_remote_code: true` for this teacher if you trust that code"
    return loading_error(error, config.model)
