"""Draws tokens from the tail: the part of a teacher's distribution outside the top-k.

Sparse Logit Sampling (Anshumann et al., ACL 2025, arXiv 2503.16870): the top-k alone are a biased estimate of the
distribution, and additional samples remove the bias.

Legend: M rows, C rows of one chunk, V vocabulary, K top-k, S samples.
"""

import torch

# Logits processed at a time, 12 bytes each: few enough to fit a CPU's caches, and enough to keep a GPU busy.
_CHUNK = {"cpu": 2**18, "other": 2**26}
# Probabilities are scaled to integers; the largest in the tail becomes this. Sums of integers are the same in any
# order, so a draw depends neither on how the device sums nor on the other rows. Up to 2**22 of them fit into 63 bits,
# and values that are rounded to 0 are less than 1e-12 of the tail's most probable token.
_UNIT = 2.0**40


def sample_tail(logits_MV: torch.Tensor, topk_ids_MK: torch.Tensor, uniforms_MS: torch.Tensor) -> torch.Tensor:
    """Returns int64 [M, S]: ids drawn with replacement in proportion to exp(logit), without the top-k.

    It inverts the cumulative distribution, in the order of the ids. An id whose logit is -inf is never drawn.

    Args:
      topk_ids_MK: int64. At least one finite logit of each row must be at another id.
      uniforms_MS: float64 in [0, 1).
    """
    chunk = max(1, _CHUNK["cpu" if logits_MV.device.type == "cpu" else "other"] // logits_MV.shape[1])
    parts = []
    for logits_CV, topk_ids_CK, uniforms_CS in zip(
        logits_MV.split(chunk), topk_ids_MK.split(chunk), uniforms_MS.split(chunk), strict=True
    ):
        tail_CV = logits_CV.to(torch.float32, copy=True).scatter_(1, topk_ids_CK, -torch.inf)
        # Shifted by the tail's own maximum: relative to a very confident top-1, all of the tail might be rounded to 0.
        tail_CV.sub_(tail_CV.amax(1, keepdim=True)).exp_().mul_(_UNIT)
        ends_CV = tail_CV.long().cumsum_(1)
        total_C1 = ends_CV[:, -1:]
        # The product may be rounded up to the total.
        targets_CS = torch.minimum((uniforms_CS * total_C1).long(), total_C1 - 1)
        parts.append(torch.searchsorted(ends_CV, targets_CS, right=True))
    return torch.cat(parts)
