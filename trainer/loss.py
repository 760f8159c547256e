"""The sparse distillation loss, without ever holding the [M, V] matrix of logits whole.

Legend: M masked positions, H hidden size, V merged vocabulary, K top-k.

The naive computation, in plain torch:

    z_MV   = hidden_MH @ weight_VH.T + bias_V
    s_MV   = log_softmax(z_MV)                    # student, over the whole merged vocabulary
    mlm_M  = -s_MV[label]
    s_MK   = s_MV[topk_ids];  t_MK = topk_logprobs  # teacher, over its whole vocabulary
    bucket:       kd_M = sum_k p (t - s) + p' (t' - s')
                  with p = exp(t); t' = log(1 - sum p) and s' = log(1 - sum exp s), p' = exp(t')
    renormalize:  kd_M = sum_k q (log q - s)  with q = p / sum p
    ignore:       kd_M = sum_k p (t - s)
                  k over the top-k inside the vocabulary; t = -inf marks those outside
    total  = sum_m  lambda * kd_m + (1 - lambda) * mlm_m

All of it is a function of the student's log-probabilities at the label and the top-k.
So `distillation_loss` goes over chunks of positions, lets autograd differentiate that
small function, g_MJ = dL/ds_MJ, and turns the result into the chunk's gradient in
place: dL/dz = (g scattered to its columns) - softmax(z) * sum_j g.

`bucket` is the default by measurement (README, "Choices"). The paper renormalises,
which asks for more confidence than a teacher has whose top-k hold little of the mass; with
sharp teachers the two agree.
"""

from dataclasses import dataclass

import torch

TAILS = ("bucket", "renormalize", "ignore")

# Float32 logits of one chunk: 2^24 are 64 MiB.
_CHUNK_LOGITS = 2**24
# log(1 - exp(x)) near x = 0 is clamped here: the tail's mass is never below about 1e-6.
# float32 holds that (1 - 1e-8 would round to 1 and give NaN).
_CLOSEST_TO_ZERO = -1e-6


@dataclass(frozen=True)
class Losses:
    """Summed loss (differentiable) and its parts a position (float32 [M], detached)."""

    total: torch.Tensor
    mlm_M: torch.Tensor
    kd_M: torch.Tensor


def distillation_loss(
    hidden_MH: torch.Tensor,
    weight_VH: torch.Tensor,
    bias_V: torch.Tensor,
    labels_M: torch.Tensor,
    topk_ids_MK: torch.Tensor,
    topk_logprobs_MK: torch.Tensor,
    weight: float,
    tail: str = "bucket",
) -> Losses:
    """weight * KD + (1 - weight) * MLM, summed over positions, in nats.

    Args:
      hidden_MH: what the vocabulary projection is applied to, at masked positions.
      weight_VH, bias_V: the projection, over the merged vocabulary.
      labels_M, topk_ids_MK: int64, merged ids. K may be 0, then KD is 0.
      topk_logprobs_MK: the teacher's, over its whole vocabulary at temperature 1.
      weight: lambda in [0, 1].
      tail: `bucket`, `renormalize` or `ignore`; formulas above.

    Under autocast the matrix products run in its dtype and the rest in float32;
    otherwise everything runs in the dtype of `hidden_MH`.
    """
    total, mlm_M, kd_M = _ChunkedLoss.apply(
        hidden_MH,
        weight_VH,
        bias_V,
        labels_M,
        topk_ids_MK,
        topk_logprobs_MK,
        weight,
        tail,
        torch.is_grad_enabled(),
    )
    return Losses(total, mlm_M, kd_M)


def sparse_losses(
    label_M: torch.Tensor, student_MK: torch.Tensor, teacher_MK: torch.Tensor, tail: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """(mlm_M, kd_M) from the student's log-probabilities of the label and of the teacher's top-k."""
    mlm_M = -label_M
    if teacher_MK.shape[1] == 0:
        return mlm_M, torch.zeros_like(mlm_M)
    # Outside a trimmed vocabulary: no part of the top-k, for the teacher as for the student.
    outside_MK = teacher_MK.isneginf()
    if tail == "renormalize":
        teacher_MK = teacher_MK.log_softmax(-1).masked_fill(outside_MK, -torch.inf)
    elif tail == "bucket":
        teacher_MK = torch.cat([teacher_MK, _log_tail(teacher_MK)], -1)
        student_MK = torch.cat([student_MK, _log_tail(student_MK.masked_fill(outside_MK, -torch.inf))], -1)
        outside_MK = torch.nn.functional.pad(outside_MK, (0, 1))
    elif tail != "ignore":
        raise ValueError(f"tail is {tail!r}, not one of {TAILS}")
    return mlm_M, (teacher_MK.exp() * (teacher_MK - student_MK).masked_fill(outside_MK, 0)).sum(-1)


def _log_tail(logprobs_MK: torch.Tensor) -> torch.Tensor:
    """log(1 - sum exp), [M, 1]."""
    mass = logprobs_MK.logsumexp(-1, keepdim=True).clamp(max=_CLOSEST_TO_ZERO)
    return torch.log(-torch.expm1(mass))


class _ChunkedLoss(torch.autograd.Function):
    """Gradients are made in the forward pass, chunk by chunk, and only scaled in the backward."""

    @staticmethod
    def forward(
        ctx, hidden_MH, weight_VH, bias_V, labels_M, topk_ids_MK, topk_logprobs_MK, weight, tail, with_gradient
    ):
        device = hidden_MH.device.type
        fast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_MH.dtype
        exact = torch.float64 if hidden_MH.dtype == torch.float64 else torch.float32
        columns_MJ = torch.cat([labels_M[:, None], topk_ids_MK], dim=1)
        teacher_MK = topk_logprobs_MK.to(exact)

        with torch.autocast(device, enabled=False):
            projection_VH = weight_VH.to(fast)
            grad_hidden_MH = torch.empty_like(hidden_MH) if with_gradient else None
            grad_weight_VH = torch.zeros_like(weight_VH) if with_gradient else None
            grad_bias_V = torch.zeros_like(bias_V, dtype=exact) if with_gradient else None
            mlm, kd = [], []
            chunk = max(1, _CHUNK_LOGITS // weight_VH.shape[0])
            for start in range(0, len(hidden_MH), chunk):
                part = slice(start, start + chunk)
                rows_CH = hidden_MH[part].to(fast)
                logits_CV = (rows_CH @ projection_VH.T).to(exact)
                logits_CV += bias_V.to(exact)
                # Not logsumexp, which takes four times as long on a CPU.
                student_CV = logits_CV.log_softmax(-1)
                gathered_CJ = student_CV.gather(1, columns_MJ[part])
                with torch.set_grad_enabled(with_gradient):
                    gathered_CJ.requires_grad_(with_gradient)
                    mlm_C, kd_C = sparse_losses(gathered_CJ[:, 0], gathered_CJ[:, 1:], teacher_MK[part], tail)
                    total = (weight * kd_C + (1 - weight) * mlm_C).sum()
                mlm.append(mlm_C.detach())
                kd.append(kd_C.detach())
                if not with_gradient:
                    continue
                (grad_gathered_CJ,) = torch.autograd.grad(total, gathered_CJ)
                grad_CV = student_CV.exp_().mul_(-grad_gathered_CJ.sum(1, keepdim=True))
                grad_CV.scatter_add_(1, columns_MJ[part], grad_gathered_CJ)
                grad_bias_V += grad_CV.sum(0)
                grad_CV = grad_CV.to(fast)
                grad_hidden_MH[part] = grad_CV @ projection_VH
                grad_weight_VH += grad_CV.T @ rows_CH
        mlm_M, kd_M = torch.cat(mlm), torch.cat(kd)
        ctx.mark_non_differentiable(mlm_M, kd_M)
        if with_gradient:
            ctx.save_for_backward(grad_hidden_MH, grad_weight_VH, grad_bias_V.to(bias_V.dtype))
        return weight * kd_M.sum() + (1 - weight) * mlm_M.sum(), mlm_M, kd_M

    @staticmethod
    def backward(ctx, grad_total, *_):
        return (*(grad_total * saved for saved in ctx.saved_tensors), *[None] * 6)
