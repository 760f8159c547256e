"""transformers' own attention, without a question for whose answer the host would wait in every step.

transformers looks whether a mask hides anything, and leaves it out where it does not. On a GPU the host waits for
that. Who gives a mask only where there is padding need not be asked.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_THEIRS, _OURS = "sdpa", "sdpa_mask_as_given"


def use_masks_as_given(model: PreTrainedModel) -> bool:
    """From now on `model` uses every attention mask that it is given: give none where there is no padding.

    Returns whether that holds. Other attentions than SDPA stay as they are, and ask only where no mask is given.
    """
    if model.config._attn_implementation != _THEIRS:
        return False
    model.set_attn_implementation(_OURS)
    return True


def _mask_as_given(*args, attention_mask: torch.Tensor | None = None, **kwargs) -> torch.Tensor | None:
    kwargs["allow_is_bidirectional_skip"] = attention_mask is None
    return sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


AttentionInterface.register(_OURS, sdpa_attention_forward)
AttentionMaskInterface.register(_OURS, _mask_as_given)
