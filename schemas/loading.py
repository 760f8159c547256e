"""How both stages load the weights of a masked LM."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
