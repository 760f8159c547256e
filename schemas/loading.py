"""How both stages load the weights of a masked LM, and what they say if that fails."""

import shlex
from collections.abc import Sequence
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


def pickled_weights(model: str) -> str:
    """Says why the weights of a local folder are not loaded, and how to convert them, if they are only pickled; else empty."""
    folder = Path(model)
    if any(folder.glob("*.safetensors*")) or not any(folder.glob("pytorch_model*.bin")):
        return ""
    return f"its weights are not safetensors, and other formats may run code; convert them with {_conversion(folder)}"


def lacking(weights: Sequence[str]) -> str:
    """Says that weights are missing; names the first."""
    more = f" (and {len(weights) - 1} more)" if len(weights) > 1 else ""
    return f"its weights lack {weights[0]}{more}"


def wrong_size(report: dict[str, Any], prefix: str = "") -> str:
    """Names the first weight that begins with `prefix` and is not of its config.json's size; empty if all are.

    Args:
      report: of the keys, as transformers returns it.
    """
    for weight, stored, declared in sorted(report["mismatched_keys"]):
        if weight.startswith(prefix):
            return (
                f"its weight {weight} has the shape {list(stored)}, but its config.json implies {list(declared)}; use the "
                "config.json that belongs to the weights"
            )
    return ""


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


def _conversion(folder: Path) -> str:
    """Returns the command that converts a folder's pickled weights to safetensors without running code in them."""
    whole = folder / "pytorch_model.bin"
    files = [whole] if whole.exists() else sorted(folder.glob("pytorch_model-*.bin"))
    code = (
        "import torch, safetensors.torch as s; "
        f"s.save_file({{k: t.contiguous().clone() for f in {[str(file) for file in files]!r} "
        "for k, t in torch.load(f, map_location='cpu', weights_only=True).items() if torch.is_tensor(t)}, "
        f"{str(folder / 'model.safetensors')!r}, {{'format': 'pt'}})"
    )
    return f"python -c {shlex.quote(code)}"
