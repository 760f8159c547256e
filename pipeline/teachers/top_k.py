"""Computes the most probable tokens and the normaliser of many rows of logits, in one pass over them.

The vocabulary is cut into blocks. For each block, the pass keeps the largest logit and the log of the sum of
exponentials. The normaliser is computed from these sums, and the top-k are in the blocks with the largest maxima. Both
are exact: only the order of summation differs from `logsumexp`, and only the choice among equal logits from `topk`.

Legend: M rows, V vocabulary, B blocks, W logits of a block, K top-k.
"""

from functools import cache

import torch

# Logits processed at a time: few enough to fit a CPU's second-level cache, and enough to keep a GPU busy.
_CHUNK = {"cpu": 2**19, "other": 2**28}
_BLOCK = 128


def log_normalizer(logits_MV: torch.Tensor) -> torch.Tensor:
    """Returns float32 [M]: the log of the sum of exponentials, summed in float32 whatever the logits' dtype."""
    return _pass(logits_MV, compiled=False)[0]


class TopK:
    """Computes the K most probable tokens and the normaliser.

    Args:
      outside: int64, ids that count in the normaliser but are not among the top-k.
      compiled: compiles the pass with torch.compile into one kernel, which reads the logits once and sums in another
        order.
    """

    def __init__(self, k: int, outside: torch.Tensor, compiled: bool = False):
        self._k = k
        self._outside = outside
        # Computed here because at each call it would wait for the device.
        self._blocks_outside = (outside // _BLOCK).unique()
        self._compiled = compiled

    def __call__(self, logits_MV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the log normalizer, float32 [M]; and [M, K] each: the K largest logits, descending; their int64 ids.

        Sets the logits at `outside` to -inf.
        """
        normalizer_M, largest_MB = _pass(logits_MV, self._compiled)
        if len(self._outside):
            logits_MV[:, self._outside] = -torch.inf
            # The last ids may be after the last block.
            changed = self._blocks_outside.clamp(max=largest_MB.shape[1] - 1)
            if largest_MB.shape[1]:
                largest_MB[:, changed] = _blocks(logits_MV)[:, changed].amax(-1)
        return normalizer_M, *_top_k(logits_MV, largest_MB, self._k)


def _blocks(logits_MV: torch.Tensor) -> torch.Tensor:
    """Returns [M, B, W], without the logits after the last whole block."""
    count = logits_MV.shape[1] // _BLOCK
    return logits_MV[:, : count * _BLOCK].unflatten(1, (count, _BLOCK))


def _pass(logits_MV: torch.Tensor, compiled: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (the log normalizer, float32 [M]; the largest logit of each block [M, B])."""
    chunk = _CHUNK["cpu" if logits_MV.device.type == "cpu" else "other"]
    summarize = _compiled_summarize() if compiled else _summarize
    normalizers, largest = [], []
    for part_CV in logits_MV.split(max(1, chunk // logits_MV.shape[1])):
        largest_CB, log_sums_CB = summarize(part_CV)
        rest_CR = part_CV[:, largest_CB.shape[1] * _BLOCK :].float()
        normalizers.append(torch.cat([log_sums_CB, rest_CR], 1).logsumexp(1))
        largest.append(largest_CB)
    return torch.cat(normalizers), torch.cat(largest)


def _summarize(logits_CV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (the largest logit, the log of the sum of exponentials in float32) of each block."""
    blocks_CBW = _blocks(logits_CV)
    largest_CB = blocks_CBW.amax(-1)
    # All logits of a block may be -inf.
    shift_CB = largest_CB.float().clamp(min=torch.finfo(torch.float32).min)
    return largest_CB, (blocks_CBW - shift_CB[..., None]).exp_().sum(-1).log_().add_(shift_CB)


@cache
def _compiled_summarize():
    return torch.compile(_summarize, dynamic=True)


def _top_k(logits_MV: torch.Tensor, largest_MB: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the K largest logits and their ids. Sorts only the K blocks with the largest maxima, which hold them."""
    rows, blocks = largest_MB.shape
    if blocks <= k:
        return logits_MV.topk(k, dim=-1)
    best_MK = largest_MB.topk(k, dim=-1).indices
    inside = torch.arange(_BLOCK, device=logits_MV.device)
    rest = torch.arange(blocks * _BLOCK, logits_MV.shape[1], device=logits_MV.device).expand(rows, -1)
    candidates = torch.cat([(best_MK[:, :, None] * _BLOCK + inside).flatten(1), rest], 1)
    values_MK, places_MK = logits_MV.gather(1, candidates).topk(k, dim=-1)
    return values_MK, candidates.gather(1, places_MK)
