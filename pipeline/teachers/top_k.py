"""The most probable tokens and the normaliser of many rows of logits, in one pass over them.

The vocabulary is cut into blocks. The pass keeps of each block its largest logit and the log of its sum of exponentials:
the normaliser is a sum over the second, and the top-k lie in the blocks where the first are largest. Both are exact: only
the order of summation differs from `logsumexp`, and only the choice among equal logits from `topk`.

Legend: M rows, V vocabulary, B blocks, W logits of a block, K top-k.
"""

from functools import cache

import torch

# Logits that are worked on at a time: what fits a CPU's second-level cache, and enough to keep a GPU busy.
_CHUNK = {"cpu": 2**19, "other": 2**28}
_BLOCK = 128


def log_normalizer(logits_MV: torch.Tensor) -> torch.Tensor:
    """float32 [M]: the log of the sum of exponentials, by float32 sums whatever the logits' dtype."""
    return _pass(logits_MV, compiled=False)[0]


class TopK:
    """The K most probable tokens and the normaliser.

    Args:
      outside: int64, ids that count in the normaliser but are not among the top-k.
      compiled: makes one kernel of the pass by torch.compile, which reads the logits once. The sums are added up in
        another order.
    """

    def __init__(self, k: int, outside: torch.Tensor, compiled: bool = False):
        self._k = k
        self._outside = outside
        # Here and not at each call, which would wait for the device.
        self._blocks_outside = (outside // _BLOCK).unique()
        self._compiled = compiled

    def __call__(self, logits_MV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The log normalizer, float32 [M]; the K largest logits of each row, descending; their int64 ids: both [M, K].

        Sets the logits outside to -inf.
        """
        normalizer_M, largest_MB = _pass(logits_MV, self._compiled)
        if len(self._outside):
            logits_MV[:, self._outside] = -torch.inf
            # The last ids may lie behind the last block.
            changed = self._blocks_outside.clamp(max=largest_MB.shape[1] - 1)
            if largest_MB.shape[1]:
                largest_MB[:, changed] = _blocks(logits_MV)[:, changed].amax(-1)
        return normalizer_M, *_top_k(logits_MV, largest_MB, self._k)


def _blocks(logits_MV: torch.Tensor) -> torch.Tensor:
    """[M, B, W], without what is left over at the end."""
    count = logits_MV.shape[1] // _BLOCK
    return logits_MV[:, : count * _BLOCK].unflatten(1, (count, _BLOCK))


def _pass(logits_MV: torch.Tensor, compiled: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(the log normalizer, float32 [M]; the largest logit of each block [M, B])."""
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
    """(the largest logit, the log of the sum of exponentials in float32) of each block."""
    blocks_CBW = _blocks(logits_CV)
    largest_CB = blocks_CBW.amax(-1)
    # A block may hold nothing but -inf.
    shift_CB = largest_CB.float().clamp(min=torch.finfo(torch.float32).min)
    return largest_CB, (blocks_CBW - shift_CB[..., None]).exp_().sum(-1).log_().add_(shift_CB)


@cache
def _compiled_summarize():
    return torch.compile(_summarize, dynamic=True)


def _top_k(logits_MV: torch.Tensor, largest_MB: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The K largest logits and their ids: they lie in the K blocks with the largest maxima, so that only those are sorted."""
    rows, blocks = largest_MB.shape
    if blocks <= k:
        return logits_MV.topk(k, dim=-1)
    best_MK = largest_MB.topk(k, dim=-1).indices
    inside = torch.arange(_BLOCK, device=logits_MV.device)
    rest = torch.arange(blocks * _BLOCK, logits_MV.shape[1], device=logits_MV.device).expand(rows, -1)
    candidates = torch.cat([(best_MK[:, :, None] * _BLOCK + inside).flatten(1), rest], 1)
    values_MK, places_MK = logits_MV.gather(1, candidates).topk(k, dim=-1)
    return values_MK, candidates.gather(1, places_MK)
