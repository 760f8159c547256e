"""transformers' attention without a check that makes the host wait in every step.

transformers checks whether a mask hides anything, and drops the mask if not. On a GPU the host waits for the answer.
The check is not needed if a mask is passed only when there is padding.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_THEIRS, _OURS = "sdpa", "sdpa_mask_as_given"


def use_masks_as_given(model: PreTrainedModel) -> bool:
    """Makes `model` use every attention mask that it gets. Pass none if there is no padding.

    Returns whether the model does so; attention implementations other than SDPA do not change. With a mask, the check
    then never runs.
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
