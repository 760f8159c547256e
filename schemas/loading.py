"""How both stages load the weights of a masked LM, and what they say if that fails."""

from pathlib import Path
from typing import Any

from schemas.errors import first_line

# The choices that both stages share. They cannot share the call itself: it needs transformers, which `schemas` does not
# import, and they differ in what they refuse (only the pipeline may run a teacher's own code, if that is allowed).


def weights_arguments(revision: str | None) -> dict[str, Any]:
    """Arguments for `from_pretrained`: safetensors only, since other formats may run code, and a report of the keys.

    The revision is always given: otherwise transformers does not find the safetensors conversion that the hub made for
    a repository without safetensors.
    """
    return {"revision": revision or "main", "use_safetensors": True, "output_loading_info": True}


def is_path(model: str) -> bool:
    """Whether a model's name can only be a path: a hub id has at most one slash and does not begin like a path."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1


def loading_error(error: Exception, model: str) -> str:
    """Says in one line why a model cannot be loaded from a folder or the hub.

    transformers looks for every missing folder on the hub, and its error then explains what hub ids look like.

    Args:
      error: what a library raised.
      model: local folder or hub id, as configured.

    Raises:
      ExhaustedError: memory was used up, so the model is not at fault.
    """
    said = first_line(error)
    if Path(model).is_dir():
        return said
    if is_path(model):
        return "there is no such folder"
    # Other errors come from a model that was found.
    return f"there is no such folder, and as a hub id: {said}" if isinstance(error, OSError) else said
