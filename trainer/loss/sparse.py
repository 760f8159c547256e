"""The sparse distillation loss, without ever holding the whole [M, V] matrix of logits.

Legend: M masked positions, C positions of one chunk, H hidden size, V merged vocabulary,
K top-k, S tail samples, J = 1 + K + S columns (the label, the top-k, the samples), T teachers.

The objective (`trainer.loss.objective`) is a function of a few numbers at each position: the student's log-probabilities
s_J at the label, the top-k and the samples, and its normaliser a, unless it is normalised over the whole vocabulary at
temperature 1. So `distillation_loss` goes over chunks of positions, lets autograd differentiate that small function,
g_J = dL/ds_J and g_a = dL/da, and turns the chunk's softmax p into the gradient in place:

    dL/dz_v = sum_{j = v} g_j + g_a w_v - p_v (sum_j g_j + g_a / u)
    w_v = da/ds_v = [v in O] exp(s_v / u - a) / u

Peak memory is one float32 [C, V] chunk, a second one where `w` is needed, and the gradients. On a CPU it takes less time
than the dense computation (`python -m benchmarks.loss`).
"""

from dataclasses import dataclass

import torch

from trainer.loss.objective import Objective, sparse_losses

# How many float32 logits a chunk has, by device: 2^26 are 256 MiB. Smaller chunks read the weights more often, and add to
# their gradient, which on a GPU takes longer than the products.
_CHUNK_LOGITS = {"cpu": 2**26, "other": 2**29}
# How many float32 logits stay in a core's cache while they are turned into probabilities.
_CACHED_LOGITS = 2**19
# How many tokens the matrix products take at a time: on a CPU so few that their result is still in the cache when it is
# cast or added, on a GPU so many that the kernels take longer than their launch.
_TILE, _GPU_TILE = 2**12, 2**16


@dataclass(frozen=True)
class Losses:
    """The losses of a batch; all but `total` are detached and have shape [M].

    Attributes:
      total: float scalar in nats, the sum over positions; differentiable.
      mlm_M, kd_M: the parts of the total before they are multiplied by lambda.
      kl_M: KL(teacher || student) over the top-k and one class for the rest, at temperature 1. It is the same for every
        objective, so that runs can be compared by it.
      correct_M, agrees_M: bool, whether the student's first guess is the label, and whether it is the teacher's first guess.
    """

    total: torch.Tensor
    mlm_M: torch.Tensor
    kd_M: torch.Tensor
    kl_M: torch.Tensor
    correct_M: torch.Tensor
    agrees_M: torch.Tensor


@dataclass(frozen=True)
class Ownership:
    """Which teacher has which token, to normalise the student over the tokens of its teacher.

    Attributes:
      owned_TV: bool, teacher t has token v.
      teacher_M: int64, the teacher of each position. It has that position's label and top-k.
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
) -> Losses:
    """sum_m lambda_m kd_m + (1 - lambda_m) mlm_m, in nats.

    Args:
      hidden_MH: what the vocabulary projection is applied to, at masked positions.
      weight_VH, bias_V: the projection, over the merged vocabulary.
      labels_M, topk_ids_MK: integers, merged ids. If K is 0, kd is 0.
      topk_logprobs_MK: the teacher's, over its whole vocabulary at temperature 1; -inf for
        a prediction outside the vocabulary, whose id may be -1 or any other.
      lambda_M: share of the distillation at each position, in [0, 1].
      ownership: normalises the student over its teacher's tokens in kd. mlm is always over the whole merged vocabulary,
        over which the finished student predicts.
      tail_ids_MS: integers, merged ids of the samples of the tail, which `sampled` needs; -1 for one outside the vocabulary.

    Under autocast the matrix products run in its dtype and the rest in float32; otherwise everything runs in the dtype of
    `hidden_MH`. Gradients are computed in the forward pass, so a second backward pass through the same result is refused.
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
            torch.is_grad_enabled(),
        )
    )


class _ChunkedLoss(torch.autograd.Function):
    """Gradients are computed in the forward pass, chunk by chunk, and only scaled in the backward pass."""

    @staticmethod
    def forward(ctx, hidden_MH, weight_VH, bias_V, targets, objective, ownership, with_gradient):
        labels_M, topk_ids_MK, topk_logprobs_MK, tail_ids_MS, lambda_M = targets
        top_k = topk_ids_MK.shape[1]
        device = hidden_MH.device.type
        compute_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_MH.dtype
        accum_dtype = torch.float64 if hidden_MH.dtype == torch.float64 else torch.float32
        # A prediction outside a trimmed vocabulary has no probability, so any id will do.
        columns_MJ = torch.cat([labels_M[:, None], topk_ids_MK, tail_ids_MS], dim=1).long().clamp_(min=0)
        outside_MS = tail_ids_MS < 0
        teacher_MK, lambda_M = topk_logprobs_MK.to(accum_dtype), lambda_M.to(accum_dtype)

        with torch.autocast(device, enabled=False):
            # A GPU has room for a copy in `compute_dtype`; a CPU casts tile by tile, which takes less time than the product.
            weight_VH = weight_VH.to(compute_dtype) if device != "cpu" else weight_VH
            tiles = _slices(len(weight_VH), _TILE if device == "cpu" else _GPU_TILE)
            bias = bias_V.to(accum_dtype)
            grad_hidden_MH = torch.zeros_like(hidden_MH) if with_gradient else None
            grad_weight_VH = torch.zeros_like(weight_VH, dtype=accum_dtype) if with_gradient else None
            grad_bias_V = torch.zeros_like(bias) if with_gradient else None
            most = _CHUNK_LOGITS["cpu" if device == "cpu" else "other"]
            chunk = max(1, min(len(hidden_MH), most // len(weight_VH)))
            # Allocated once: fresh memory for every chunk would take as long as filling it.
            buffer_CV = hidden_MH.new_empty((chunk, len(weight_VH)), dtype=accum_dtype)
            parts = []
            for part in _slices(len(hidden_MH), chunk):
                rows_CH, columns_CJ = hidden_MH[part].to(compute_dtype), columns_MJ[part]
                logits_CV = buffer_CV[: len(rows_CH)]
                for tile in tiles:
                    torch.add(rows_CH @ weight_VH[tile].to(compute_dtype).T, bias[tile], out=logits_CV[:, tile])
                gathered_CJ = logits_CV.gather(1, columns_CJ)
                top_C, log_normaliser_C = _softmax_(logits_CV)
                probabilities_CV = logits_CV  # `_softmax_` works in place

                student_CJ = gathered_CJ - log_normaliser_C[:, None]
                normaliser_C, slope_CV = _normaliser(probabilities_CV, objective, ownership, part)
                with torch.set_grad_enabled(with_gradient):
                    student_CJ.requires_grad_(with_gradient)
                    normaliser_C.requires_grad_(with_gradient and slope_CV is not None)
                    compared_CJ = student_CJ[:, 1:] / objective.student_temperature - normaliser_C[:, None]
                    compared_CK, compared_CS = compared_CJ[:, :top_k], compared_CJ[:, top_k:]
                    compared_CS = compared_CS.masked_fill(outside_MS[part], -torch.inf)
                    mlm_C, kd_C = sparse_losses(student_CJ[:, 0], compared_CK, teacher_MK[part], objective, compared_CS)
                    total = (lambda_M[part] * kd_C + (1 - lambda_M[part]) * mlm_C).sum()
                kl_C = sparse_losses(student_CJ[:, 0], student_CJ[:, 1 : 1 + top_k], teacher_MK[part], Objective())[1]
                guesses_C2 = gathered_CJ[:, :2] == top_C[:, None]
                parts.append([x.detach() for x in (mlm_C, kd_C, kl_C, guesses_C2[:, 0], guesses_C2[:, -1])])
                if not with_gradient:
                    continue

                if slope_CV is None:
                    (grad_student_CJ,) = torch.autograd.grad(total, student_CJ)
                    grad_CV = probabilities_CV.mul_(-grad_student_CJ.sum(1, keepdim=True))
                else:
                    grad_student_CJ, grad_normaliser_C = torch.autograd.grad(total, [student_CJ, normaliser_C])
                    through_C = grad_student_CJ.sum(1) + grad_normaliser_C / objective.student_temperature
                    grad_CV = probabilities_CV.mul_(-through_C[:, None])
                    grad_CV.addcmul_(slope_CV, grad_normaliser_C[:, None])
                grad_CV.scatter_add_(1, columns_CJ, grad_student_CJ)
                grad_bias_V += grad_CV.sum(0)
                for tile in tiles:
                    grad_CT = grad_CV[:, tile].to(compute_dtype)
                    grad_hidden_MH[part] += grad_CT @ weight_VH[tile].to(compute_dtype)
                    grad_weight_VH[tile] += grad_CT.T @ rows_CH
        mlm_M, kd_M, kl_M, correct_M, agrees_M = (torch.cat(column) for column in zip(*parts, strict=True))
        ctx.mark_non_differentiable(mlm_M, kd_M, kl_M, correct_M, agrees_M)
        # Not by `save_for_backward`, because these are scaled in place, without a second copy.
        ctx.gradients = (grad_hidden_MH, grad_weight_VH, grad_bias_V.to(bias_V.dtype)) if with_gradient else None
        total = (lambda_M * kd_M + (1 - lambda_M) * mlm_M).sum()
        return total, mlm_M, kd_M, kl_M, correct_M, agrees_M

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_total, *_):
        if ctx.gradients is None:
            raise RuntimeError("distillation_loss: a second backward pass; its gradients are made once")
        gradients, ctx.gradients = ctx.gradients, None
        return (*(gradient.mul_(grad_total) for gradient in gradients), *[None] * 4)


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]


def _softmax_(logits_CV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turns logits into probabilities in place; gives each row's (largest logit, log normaliser)."""
    on_cpu = logits_CV.device.type == "cpu"
    top, log_normaliser = [], []
    # A few rows at a time, so that every pass over them finds them in the cache.
    for rows in logits_CV.split(max(1, _CACHED_LOGITS // logits_CV.shape[1]) if on_cpu else len(logits_CV)):
        largest = rows.amax(1, keepdim=True)
        total = rows.sub_(largest).exp_().sum(1, keepdim=True)
        rows.div_(total)
        top.append(largest[:, 0])
        log_normaliser.append((largest + total.log())[:, 0])
    return torch.cat(top), torch.cat(log_normaliser)


def _normaliser(
    probabilities_CV: torch.Tensor, objective: Objective, ownership: Ownership | None, part: slice
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(a_C, w_CV) of the formulas; (zeros, None) if the softmax is the normaliser already."""
    inverse = 1 / objective.student_temperature
    if ownership is None and inverse == 1:
        return probabilities_CV.new_zeros(len(probabilities_CV)), None
    powers_CV = probabilities_CV.pow(inverse) if inverse != 1 else probabilities_CV.clone()
    if ownership is not None:
        powers_CV.mul_(ownership.owned_TV[ownership.teacher_M[part]])
    sums_C = powers_CV.sum(1)
    return sums_C.log(), powers_CV.mul_((inverse / sums_C)[:, None])
