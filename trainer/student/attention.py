"""transformers' attention without a check for which the host would wait in every step.

transformers checks whether a mask hides anything, and leaves the mask out if it does not. On a GPU the host waits for the
answer. The check is not needed where a mask is given only if there is padding.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_THEIRS, _OURS = "sdpa", "sdpa_mask_as_given"


def use_masks_as_given(model: PreTrainedModel) -> bool:
    """Makes `model` use every attention mask that it is given: give none if there is no padding.

    Returns whether it does so now. Other attentions than SDPA stay as they are, and check only if no mask is given.
    """
    if model.config._attn_implementation != _THEIRS:
        return False
    model.set_attn_implementation(_OURS)
    return True


def _mask_as_given(*args, **kwargs) -> torch.Tensor | None:
    kwargs["allow_is_bidirectional_skip"] = kwargs.get("attention_mask") is None
    return sdpa_mask(*args, **kwargs)


AttentionInterface.register(_OURS, sdpa_attention_forward)
AttentionMaskInterface.register(_OURS, _mask_as_given)
