"""The most probable tokens and the normaliser of many rows of logits, in little memory traffic.

Legend: M rows, V vocabulary, K top-k. Both are exact: only the order of summation differs
from `logsumexp`, and only the choice among equal logits from `topk`.
"""

import torch

# Logits that are worked on at a time: what fits a CPU's second-level cache, and enough to keep a GPU busy.
_CHUNK = {"cpu": 2**19, "other": 2**28}
# The vocabulary is searched in blocks of this many logits.
_BLOCK = 128


def log_normalizer(logits_MV: torch.Tensor) -> torch.Tensor:
    """float32 [M]: the log of the sum of exponentials, by float32 sums whatever the logits' dtype."""
    chunk = _CHUNK["cpu" if logits_MV.device.type == "cpu" else "other"]
    parts = []
    for part in logits_MV.split(max(1, chunk // logits_MV.shape[1])):
        highest = part.amax(-1, keepdim=True).float()
        shifted = part.float() if part.dtype != torch.float32 else part.clone()
        parts.append(shifted.sub_(highest).exp_().sum(-1).log_().add_(highest[:, 0]))
    return torch.cat(parts)


def top_k(logits_MV: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The K largest logits of each row, descending, and int64 ids: both [M, K].

    They lie in the K blocks with the largest maxima, so that only those are sorted.
    """
    rows, vocabulary = logits_MV.shape
    blocks = vocabulary // _BLOCK
    if blocks <= k:
        return logits_MV.topk(k, dim=-1)
    body = blocks * _BLOCK
    _, best_MK = logits_MV[:, :body].view(rows, blocks, _BLOCK).amax(-1).topk(k, dim=-1)
    inside = torch.arange(_BLOCK, device=logits_MV.device)
    rest = torch.arange(body, vocabulary, device=logits_MV.device).expand(rows, -1)
    candidates = torch.cat([(best_MK[:, :, None] * _BLOCK + inside).flatten(1), rest], 1)
    values_MK, places_MK = logits_MV.gather(1, candidates).topk(k, dim=-1)
    return values_MK, candidates.gather(1, places_MK)
