"""The two passes over the logits of a chunk of positions: their normalisers, and the gradient in their place.

Legend: C positions, V merged vocabulary, J columns with a gradient of their own (`trainer.loss.sparse`), T teachers.

The logits are z = products + bias; s, p, w, u, O, a and g are those of `trainer.loss.sparse`.
"""

from functools import cache
from typing import Any

import torch

# How many logits stay in a core's cache during a pass.
_CACHED_LOGITS = 2**19


class Passes:
    """The passes over chunks of one batch, by float32 or float64 sums whatever the products' dtype.

    Args:
      bias_V: in the dtype of the sums.
      inverse: 1 / u.
      owned_TV: bool, the set O of each teacher; None for the whole vocabulary.
      compiled: makes one kernel of each pass. Otherwise a CPU goes over a few rows at a time, so that all operations on
        them find them in its cache.
    """

    def __init__(self, bias_V: torch.Tensor, inverse: float, owned_TV: torch.Tensor | None, compiled: bool):
        self._constants = bias_V, inverse, owned_TV
        self._compiled = compiled

    def normalisers(self, products_CV: torch.Tensor, teacher_C: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(largest z, log sum exp z, a), each [C, 1]."""
        parts = self._run(_normalisers, products_CV, teacher_C)
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def gradient_(self, products_CV: torch.Tensor, teacher_C: torch.Tensor, *rows: torch.Tensor) -> None:
        """Replaces the products by dL/dz. `rows` are the arguments of `_gradient_` from `columns_CJ` on."""
        self._run(_gradient_, products_CV, teacher_C, *rows)

    def _run(self, function, products_CV: torch.Tensor, *rows: torch.Tensor) -> list[Any]:
        if self._compiled:
            return [_as_one_kernel(function)(*self._constants, products_CV, *rows)]
        count, width = products_CV.shape
        size = max(1, _CACHED_LOGITS // width if products_CV.device.type == "cpu" else count)
        split = (tensor.split(size) for tensor in (products_CV, *rows))
        return [function(*self._constants, *few) for few in zip(*split, strict=True)]


@cache
def _as_one_kernel(function):
    return torch.compile(function, dynamic=True)


def _normalisers(bias_V, inverse, owned_TV, products_CV, teacher_C):
    logits_CV = products_CV + bias_V
    largest_C1 = logits_CV.amax(1, keepdim=True)
    log_normaliser_C1 = (logits_CV.sub_(largest_C1).exp_().sum(1, keepdim=True).log_()).add_(largest_C1)
    part_C1 = torch.zeros_like(largest_C1)
    if owned_TV is not None or inverse != 1:
        compared_CV = (products_CV + bias_V).sub_(log_normaliser_C1).mul_(inverse)
        if owned_TV is not None:
            compared_CV.masked_fill_(~owned_TV[teacher_C], -torch.inf)
        part_C1 = compared_CV.logsumexp(1, keepdim=True)
    return largest_C1, log_normaliser_C1, part_C1


def _gradient_(
    bias_V, inverse, owned_TV, products_CV, teacher_C, columns_CJ, grad_CJ, log_normaliser_C1, part_C1, grad_part_C1
):
    """dL/dz from `grad_CJ`, g at `columns_CJ`, and `grad_part_C1`, g_a."""
    is_part = owned_TV is not None or inverse != 1
    through_C1 = grad_CJ.sum(1, keepdim=True)
    if is_part:
        through_C1 = through_C1 + grad_part_C1 * inverse

    def of_all_columns(products, bias, owned):
        logprobs = (products + bias).sub_(log_normaliser_C1)
        if not is_part:
            return logprobs.exp_().mul_(-through_C1)
        slope = (logprobs * inverse).sub_(part_C1).exp_().mul_(grad_part_C1 * inverse)
        if owned is not None:
            slope.mul_(owned)
        return slope.addcmul_(logprobs.exp_(), through_C1, value=-1)

    # A token may be in several columns. Each of them is given the sum of all, so that the result does not depend on the
    # order in which a device writes, and is rounded once.
    is_same_CJJ = columns_CJ[:, :, None] == columns_CJ[:, None, :]
    sums_CJ = (is_same_CJJ * grad_CJ[:, None, :]).sum(-1)
    owned_CJ = None if owned_TV is None else owned_TV[teacher_C[:, None], columns_CJ]
    at_columns_CJ = of_all_columns(products_CV.gather(1, columns_CJ), bias_V[columns_CJ], owned_CJ) + sums_CJ
    products_CV.copy_(of_all_columns(products_CV, bias_V, None if owned_TV is None else owned_TV[teacher_C]))
    products_CV.scatter_(1, columns_CJ, at_columns_CJ.to(products_CV.dtype))
