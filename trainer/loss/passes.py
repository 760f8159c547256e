"""The two passes over the logits of a chunk of positions: their normalisers, and their replacement by the gradient.

Legend: C positions, V merged vocabulary, J columns with a gradient of their own (`trainer.loss.sparse`), T teachers.

The logits are z = products + bias; s, p, w, u, O, a and g are those of `trainer.loss.sparse`.
"""

from functools import cache

import torch

# Logits per operation, by device: few enough to stay in a CPU's cache from one operation to the next, and to need
# little memory for intermediate results on a GPU.
_AT_A_TIME = {"cpu": 2**19, "other": 2**26}


class Passes:
    """The passes over chunks of one batch, with float32 or float64 sums for any dtype of the products.

    Args:
      bias_V: in the dtype of the sums.
      student_temperature: u.
      owned_TV: bool, the set O of each teacher; None for the whole vocabulary.
      compiled: compiles each pass by torch.compile, instead of processing a few rows at a time.
    """

    def __init__(self, bias_V: torch.Tensor, student_temperature: float, owned_TV: torch.Tensor | None, compiled: bool):
        # A tensor, because torch.compile would turn a number into work for the CPU, and filled on the device, because a copy
        # would wait for the GPU; None if there is nothing to divide.
        inverse = None if student_temperature == 1 else bias_V.new_full((), 1 / student_temperature)
        self._constants = bias_V, inverse, owned_TV
        self._compiled = compiled

    def normalisers(self, products_CV: torch.Tensor, teacher_C: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns (largest z, log sum exp z, a), each [C, 1]."""
        parts = self._run(_normalisers, 0, products_CV, teacher_C)
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def gradient_(self, products_CV: torch.Tensor, teacher_C: torch.Tensor, *rows: torch.Tensor) -> None:
        """Replaces the products by dL/dz. `rows` are the arguments of `_gradient_` from `columns_CJ` on."""
        columns_CJ = rows[0]
        at_columns = self._run(_gradient_, columns_CJ.shape[1] ** 2, products_CV, teacher_C, *rows)
        products_CV.scatter_(1, columns_CJ, torch.cat(at_columns))

    def _run(self, function, width: int, products_CV: torch.Tensor, *rows: torch.Tensor) -> list:
        """Runs `function` on a few rows at a time. Each row needs memory for its logits or for `width` numbers."""
        limit = _AT_A_TIME["cpu" if products_CV.device.type == "cpu" else "other"]
        size = max(1, limit // max(width, products_CV.shape[1]))
        if self._compiled:
            function, size = _compile(function), len(products_CV)
        split = (tensor.split(size) for tensor in (products_CV, *rows))
        return [function(*self._constants, *few) for few in zip(*split, strict=True)]


@cache
def _compile(function):
    return torch.compile(function, dynamic=True)


def _normalisers(bias_V, inverse, owned_TV, products_CV, teacher_C):
    logits_CV = products_CV + bias_V
    largest_C1 = logits_CV.amax(1, keepdim=True)
    log_normaliser_C1 = logits_CV.sub_(largest_C1).exp_().sum(1, keepdim=True).log_().add_(largest_C1)
    if owned_TV is None and inverse is None:
        return largest_C1, log_normaliser_C1, torch.zeros_like(largest_C1)
    del logits_CV
    compared_CV = _log_softmax(products_CV, bias_V, log_normaliser_C1)
    if inverse is not None:
        compared_CV.mul_(inverse)
    if owned_TV is not None:
        compared_CV.masked_fill_(~owned_TV[teacher_C], -torch.inf)
    return largest_C1, log_normaliser_C1, compared_CV.logsumexp(1, keepdim=True)


def _gradient_(
    bias_V, inverse, owned_TV, products_CV, teacher_C, columns_CJ, grad_CJ, log_normaliser_C1, part_C1, grad_part_C1
):
    """Replaces the products by dL/dz except at `columns_CJ`, and returns dL/dz at these.

    Args:
      grad_CJ, grad_part_C1: g_J and g_a.
    """
    if inverse is not None:
        grad_part_C1 = grad_part_C1 * inverse
    is_part = owned_TV is not None or inverse is not None
    through_C1 = grad_CJ.sum(1, keepdim=True) + (grad_part_C1 if is_part else 0)

    def of_all_columns(products, bias, owned):
        logprobs = _log_softmax(products, bias, log_normaliser_C1)
        if not is_part:
            return logprobs.exp_().mul_(-through_C1)
        compared = logprobs if inverse is None else logprobs * inverse
        slope = compared - part_C1
        if owned is not None:
            # Before the exponential, which could overflow: a token outside the part may be much more probable than the
            # part.
            slope.masked_fill_(~owned, -torch.inf)
        return slope.exp_().mul_(grad_part_C1).addcmul_(logprobs.exp_(), through_C1, value=-1)

    # A token may be in several columns. Each of them gets the sum over all, so that the result does not depend on the
    # order in which a device writes, and is rounded once.
    is_same_CJJ = columns_CJ[:, :, None] == columns_CJ[:, None, :]
    sums_CJ = (is_same_CJJ * grad_CJ[:, None, :]).sum(-1)
    owned_CJ = None if owned_TV is None else owned_TV[teacher_C[:, None], columns_CJ]
    at_columns_CJ = of_all_columns(products_CV.gather(1, columns_CJ), bias_V[columns_CJ], owned_CJ) + sums_CJ
    products_CV.copy_(of_all_columns(products_CV, bias_V, None if owned_TV is None else owned_TV[teacher_C]))
    return at_columns_CJ.to(products_CV.dtype)


def _log_softmax(products, bias, log_normaliser_C1):
    return (products + bias).sub_(log_normaliser_C1)
