"""How both stages load the weights of a masked LM."""

from typing import Any

# What both stages decide alike. The stages cannot share the call itself: it needs transformers, which `schemas` does not
# import, and they differ in what they refuse (only the pipeline runs a teacher's own code, where it is allowed to).


def weights_arguments(revision: str | None) -> dict[str, Any]:
    """Arguments of `from_pretrained`: safetensors only, since other formats may run code, and a report of the keys.

    The revision is always named, because only then does transformers find the safetensors conversion that the hub
    has made of a repository without safetensors.
    """
    return {"revision": revision or "main", "use_safetensors": True, "output_loading_info": True}
