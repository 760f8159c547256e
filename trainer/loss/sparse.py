"""The sparse distillation loss, without ever storing the whole [M, V] matrix of logits.

Legend: M masked positions, C positions of one chunk, H hidden size, V merged vocabulary,
K top-k, S tail samples, J = 1 + K + S columns (the label, the top-k, the samples), T teachers.

The objective (`trainer.loss.objective`) is a function of a few numbers at each position: the student's
log-probabilities s_J at the label, the top-k and the samples, and its normaliser a, which is 0 over the whole
vocabulary at temperature 1. So `distillation_loss` processes chunks of positions, lets autograd differentiate that
small function to get g_J = dL/ds_J and g_a = dL/da, and replaces the chunk's logits z by their gradient:

    dL/dz_v = sum_{j = v} g_j + g_a w_v - p_v (sum_j g_j + g_a / u)
    p_v = exp(s_v),  w_v = da/ds_v = [v in O] exp(s_v / u - a) / u

So there are two passes over a chunk: one for the normalisers, one for the gradient. Peak memory is one [C, V] chunk in
the dtype of the matrix products, a pass's intermediate results for a few rows, and the gradients. On a CPU this is
faster than the dense computation (`python -m benchmarks.loss`).
"""

from dataclasses import dataclass

import torch

from trainer.loss.objective import Objective, sparse_losses
from trainer.loss.passes import Passes

# Logits per chunk, by device: 2^26 in float32 are 256 MiB. With smaller chunks, the weights are read and their gradient
# is updated more often, which on a GPU takes longer than the products.
_CHUNK_LOGITS = {"cpu": 2**26, "other": 2**29}
# Tokens per matrix product on a CPU: few enough that the cast weights are still in the cache.
_TILE = 2**12


@dataclass(frozen=True)
class Losses:
    """The losses of a batch. All except `total` are detached and have shape [M].

    Attributes:
      total: float scalar in nats, the sum over positions; differentiable.
      mlm_M, kd_M: the two parts of the total, before weighting by lambda.
      kl_M: KL(teacher || student) over the top-k and one class for the rest, at temperature 1. Its definition does not
        depend on the objective, so that runs can be compared by it.
      correct_M, agrees_M: bool, whether the student's first guess is the label, and whether it is the teacher's first
        guess.
    """

    total: torch.Tensor
    mlm_M: torch.Tensor
    kd_M: torch.Tensor
    kl_M: torch.Tensor
    correct_M: torch.Tensor
    agrees_M: torch.Tensor


@dataclass(frozen=True)
class Ownership:
    """Which teacher has which token, to normalise the student over its teacher's tokens.

    Attributes:
      owned_TV: bool, teacher t has token v.
      teacher_M: int64, the teacher of each position. Its tokens include the position's label and top-k.
    """

    owned_TV: torch.Tensor
    teacher_M: torch.Tensor


def distillation_loss(
    hidden_MH: torch.Tensor,
    weight_VH: torch.Tensor,
    bias_V: torch.Tensor,
    labels_M: torch.Tensor,
    topk_ids_MK: torch.Tensor,
    topk_logprobs_MK: torch.Tensor,
    lambda_M: torch.Tensor,
    objective: Objective = Objective(),  # noqa: B008, it is frozen
    ownership: Ownership | None = None,
    tail_ids_MS: torch.Tensor | None = None,
    compiled: bool = False,
) -> Losses:
    """sum_m lambda_m kd_m + (1 - lambda_m) mlm_m, in nats.

    Args:
      hidden_MH: the input of the vocabulary projection at masked positions.
      weight_VH, bias_V: the projection, over the merged vocabulary.
      labels_M, topk_ids_MK: integers, merged ids. If K is 0, kd is 0.
      topk_logprobs_MK: the teacher's, over its whole vocabulary at temperature 1; -inf for
        a prediction outside the vocabulary, whose id may be anything, such as -1.
      lambda_M: share of distillation at each position, in [0, 1].
      ownership: normalises the student over its teacher's tokens in kd. mlm is always over the whole merged vocabulary,
        like the predictions of the finished student.
      tail_ids_MS: integers, merged ids of the samples of the tail, which `sampled` needs; -1 for one outside the
        vocabulary.
      compiled: compiles the passes over the logits by torch.compile, which moves much less memory on a GPU. The order
        of summation differs.

    Under autocast the matrix products run in its dtype, and their results are stored in it; the rest is float32.
    Otherwise everything runs in the dtype of `hidden_MH`. Gradients are computed in the forward pass, so a second
    backward pass through the same result is refused.
    """
    return Losses(
        *_ChunkedLoss.apply(
            hidden_MH,
            weight_VH,
            bias_V,
            (
                labels_M,
                topk_ids_MK,
                topk_logprobs_MK,
                topk_ids_MK[:, :0] if tail_ids_MS is None else tail_ids_MS,
                lambda_M,
            ),
            objective,
            ownership,
            compiled,
            torch.is_grad_enabled(),
        )
    )


class _ChunkedLoss(torch.autograd.Function):
    """Gradients are computed in the forward pass, chunk by chunk, and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx, hidden_MH, weight_VH, bias_V, targets, objective, ownership, compiled, with_gradient):
        labels_M, topk_ids_MK, topk_logprobs_MK, tail_ids_MS, lambda_M = targets
        top_k = topk_ids_MK.shape[1]
        device = hidden_MH.device.type
        compute_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_MH.dtype
        accum_dtype = torch.float64 if hidden_MH.dtype == torch.float64 else torch.float32
        # A prediction outside a trimmed vocabulary has no probability, so its id does not matter.
        columns_MJ = torch.cat([labels_M[:, None], topk_ids_MK, tail_ids_MS], dim=1).long().clamp_(min=0)
        outside_MS = tail_ids_MS < 0
        teacher_MK, lambda_M = topk_logprobs_MK.to(accum_dtype), lambda_M.to(accum_dtype)

        with torch.autocast(device, enabled=False):
            # A GPU has room for a copy in `compute_dtype`; a CPU casts tile by tile, which is fast compared to the
            # product.
            weight_VH = weight_VH.to(compute_dtype) if device != "cpu" else weight_VH
            tiles = _slices(len(weight_VH), _TILE if device == "cpu" else len(weight_VH))
            bias = bias_V.to(accum_dtype)
            grad_hidden_MH = torch.zeros_like(hidden_MH, dtype=accum_dtype) if with_gradient else None
            grad_weight_VH = torch.zeros_like(weight_VH, dtype=accum_dtype) if with_gradient else None
            grad_bias_V = torch.zeros_like(bias) if with_gradient else None
            most = _CHUNK_LOGITS["cpu" if device == "cpu" else "other"]
            chunk = max(1, min(len(hidden_MH), most // len(weight_VH)))
            # Allocated once: allocating memory for every chunk would take as long as filling it. Rows begin at
            # multiples of 64 numbers, because a GPU's matrix products are slower on unaligned rows.
            width = -(-len(weight_VH) // 64) * 64
            buffer_CV = hidden_MH.new_empty((chunk, width), dtype=compute_dtype)[:, : len(weight_VH)]
            owned_TV = None if ownership is None else ownership.owned_TV
            teacher_M = torch.zeros_like(labels_M) if ownership is None else ownership.teacher_M
            passes = Passes(bias, objective.student_temperature, owned_TV, compiled)
            parts = []
            for part in _slices(len(hidden_MH), chunk):
                rows_CH, columns_CJ = hidden_MH[part].to(compute_dtype), columns_MJ[part]
                products_CV = buffer_CV[: len(rows_CH)]
                for tile in tiles:
                    torch.mm(rows_CH, weight_VH[tile].to(compute_dtype).T, out=products_CV[:, tile])
                largest_C1, log_normaliser_C1, part_C1 = passes.normalisers(products_CV, teacher_M[part])
                logits_CJ = products_CV.gather(1, columns_CJ) + bias[columns_CJ]

                student_CJ = logits_CJ - log_normaliser_C1
                with torch.set_grad_enabled(with_gradient):
                    student_CJ.requires_grad_(with_gradient)
                    part_C1.requires_grad_(with_gradient)
                    compared_CJ = student_CJ[:, 1:] / objective.student_temperature - part_C1
                    compared_CK, compared_CS = compared_CJ[:, :top_k], compared_CJ[:, top_k:]
                    compared_CS = compared_CS.masked_fill(outside_MS[part], -torch.inf)
                    mlm_C, kd_C = sparse_losses(student_CJ[:, 0], compared_CK, teacher_MK[part], objective, compared_CS)
                    total = (lambda_M[part] * kd_C + (1 - lambda_M[part]) * mlm_C).sum()
                kl_C = sparse_losses(student_CJ[:, 0], student_CJ[:, 1 : 1 + top_k], teacher_MK[part], Objective())[1]
                guesses_C2 = logits_CJ[:, :2] == largest_C1
                parts.append([x.detach() for x in (mlm_C, kd_C, kl_C, guesses_C2[:, 0], guesses_C2[:, -1])])
                if not with_gradient:
                    continue

                grad_student_CJ, grad_part_C1 = torch.autograd.grad(
                    total, [student_CJ, part_C1], materialize_grads=True
                )
                passes.gradient_(
                    products_CV, teacher_M[part], columns_CJ, grad_student_CJ, log_normaliser_C1, part_C1, grad_part_C1
                )
                grad_CV = products_CV
                for tile in tiles:
                    grad_bias_V[tile] += grad_CV[:, tile].sum(0, dtype=accum_dtype)
                    _add_product_(grad_hidden_MH[part], grad_CV[:, tile], weight_VH[tile].to(compute_dtype))
                    _add_product_(grad_weight_VH[tile], grad_CV[:, tile].T, rows_CH)
        mlm_M, kd_M, kl_M, correct_M, agrees_M = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.mark_non_differentiable(mlm_M, kd_M, kl_M, correct_M, agrees_M)
        # Not with `save_for_backward`, because these are scaled in place, without a second copy.
        ctx.gradients = (
            (grad_hidden_MH.to(hidden_MH.dtype), grad_weight_VH, grad_bias_V.to(bias_V.dtype))
            if with_gradient
            else None
        )
        total = (lambda_M * kd_M + (1 - lambda_M) * mlm_M).sum()
        return total, mlm_M, kd_M, kl_M, correct_M, agrees_M

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_total, *_):
        if ctx.gradients is None:
            raise RuntimeError("distillation_loss: a second backward pass, but its gradients can be used only once")
        gradients, ctx.gradients = ctx.gradients, None
        return (*(gradient.mul_(grad_total) for gradient in gradients), *[None] * 5)


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]


def _add_product_(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Computes total += left @ right, summing in the total's dtype; without a copy of the product where torch can."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif left.device.type == "cuda" and total.dtype == torch.float32:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total += left @ right
