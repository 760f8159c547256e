"""How both stages load the weights of a masked LM."""

from typing import Any

# The choices that both stages share. They cannot share the call itself: it needs transformers, which `schemas` does not
# import, and they differ in what they refuse (only the pipeline may run a teacher's own code, if that is allowed).


def weights_arguments(revision: str | None) -> dict[str, Any]:
    """Arguments for `from_pretrained`: safetensors only, since other formats may run code, and a report of the keys.

    The revision is always given: otherwise transformers does not find the safetensors conversion that the hub made for
    a repository without safetensors.
    """
    return {"revision": revision or "main", "use_safetensors": True, "output_loading_info": True}
