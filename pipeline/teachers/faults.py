"""What a library says about a teacher that it cannot load, as one line."""

from pipeline.config import TeacherConfig
from schemas.errors import first_line


def loading_fault(error: Exception, config: TeacherConfig) -> str:
    """Why a part of a teacher cannot be loaded, in one line, with the remedy where it is known.

    Raises:
      UserError: memory was used up.
    """
    if "trust_remote_code" in str(error) and not config.trust_remote_code:
        return "it comes with Python code of its own; set `trust_remote_code: true` for it if you trust that code"
    return first_line(error)
