"""What a library says of a teacher that it cannot load, as one line."""

import textwrap

from safetensors import SafetensorError

from pipeline.config import TeacherConfig


def loading_fault(error: Exception, config: TeacherConfig) -> str:
    """Why a part of a teacher cannot be loaded, in one line, with the mend where it is known."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text and not config.trust_remote_code:
        return "it comes with Python code of its own; set `trust_remote_code: true` for it if you trust that code"
    # What others say makes little sense without their names.
    speaks = text and isinstance(error, (OSError, ValueError, RuntimeError, SafetensorError))
    return textwrap.shorten(text if speaks else f"{type(error).__name__}: {text}", 300, placeholder=" ...")
