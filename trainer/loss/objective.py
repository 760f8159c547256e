"""The loss at one masked position, as a function of a few log-probabilities.

Legend: M masked positions, K top-k, S tail samples, V merged vocabulary.

With z the student's logits, s = log_softmax(z) over the whole merged vocabulary, and t_k
the teacher's stored log-probabilities of its top-k, over its whole vocabulary:

    mlm = -s[label]
    r_k = s[k] / u - a,  a = log sum_{j in O} exp(s[j] / u)
          O: the whole merged vocabulary, or the tokens that the row's teacher owns
          u: the temperature T for `renormalize`, else 1; so a = 0 for T = 1 over the whole

    renormalize:  kd = T^2 sum_k q_k (log q_k - r_k)       q = softmax_k(t / T)
    bucket:       kd = T^2 sum_c p_c (log p_c - log b_c)   c: the top-k and one class for the rest
                  p = softmax_c(t_c / T),  t_rest = log(1 - sum_k exp t_k)
                  b = softmax_c(r_c / T),  r_rest = log(1 - sum_k exp r_k)
    ignore:       kd = sum_k exp(t_k) (t_k - r_k)          T = 1 only: this is no distribution to temper
    sampled:      kd = sum_k exp(t_k) (t_k - r_k)          T = 1 only: the samples were drawn at T = 1
                     + (exp(t_rest) / S) sum_j (t_rest - r_j)
                  j: the S tokens drawn from the teacher's tail in proportion to their probabilities

    total = sum_m  lambda_m kd_m + (1 - lambda_m) mlm_m

k runs over the top-k inside the vocabulary; t = -inf marks those that were trimmed away. Likewise, j runs over the
samples inside the vocabulary, but S counts all of them. T^2 keeps the gradient's size (Hinton et al. 2015, arXiv
1503.02531).

`renormalize` is the paper's (MergeDistill, section 3): the teacher's softmax over its top-k logits. If the top-k have
little of the mass, it demands more confidence than the teacher has; for sharp teachers the first three agree.
`bucket` is the default because of measurements (docs/decisions/tail.md).

`sampled` is unbiased (Sparse Logit Sampling, arXiv 2503.16870; docs/decisions/sampled-tail.md). Over the draws, the
expectation of its gradient is the gradient of KL(teacher || student) over all tokens, and the expectation of its value
is that KL plus exp(t_rest) H. H is the entropy of the teacher within its tail. It appears because t_rest replaces the
sample's own log-probability in KL, which is not stored; it does not depend on the student.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from schemas.rows import HIGHEST_LOG_MASS

TAILS = ("bucket", "renormalize", "ignore", "sampled")


@dataclass(frozen=True)
class Objective:
    """How the top-k are compared (formulas above). Raises ValueError for undefined combinations."""

    tail: str = "bucket"
    temperature: float = 1.0

    def __post_init__(self):
        if self.tail not in TAILS:
            raise ValueError(f"tail is {self.tail!r}, not one of {TAILS}")
        if self.tail == "ignore" and self.temperature != 1:
            raise ValueError("tail `ignore` leaves no distribution, so its temperature must be 1")
        if self.tail == "sampled" and self.temperature != 1:
            raise ValueError("tail `sampled` uses samples drawn at temperature 1, so its temperature must be 1")

    @property
    def student_temperature(self) -> float:
        """u in the formulas: the temperature of the student's normalisation over the vocabulary."""
        return self.temperature if self.tail == "renormalize" else 1.0


def sparse_losses(
    label_M: torch.Tensor,
    student_MK: torch.Tensor,
    teacher_MK: torch.Tensor,
    objective: Objective,
    student_MS: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (mlm_M, kd_M) in nats, from s[label], r_k and t_k of the formulas above. If K is 0, kd is 0.

    Args:
      student_MS: r_j, used only by `sampled`; -inf for a sample that was trimmed away.
    """
    mlm_M = -label_M
    if teacher_MK.shape[1] == 0:
        return mlm_M, torch.zeros_like(mlm_M)
    # Predictions outside a trimmed vocabulary are not part of the top-k, for teacher and student alike.
    outside_MK = teacher_MK.isneginf()
    temperature = objective.temperature
    if objective.tail == "renormalize":
        teacher_MK = (teacher_MK / temperature).log_softmax(-1).masked_fill(outside_MK, -torch.inf)
    elif objective.tail == "bucket":
        student_MK = student_MK.masked_fill(outside_MK, -torch.inf)
        teacher_MK = torch.cat([teacher_MK, _log_rest(teacher_MK)], -1)
        student_MK = torch.cat([student_MK, _log_rest(student_MK)], -1)
        if temperature != 1:
            teacher_MK = (teacher_MK / temperature).log_softmax(-1)
            student_MK = (student_MK / temperature).log_softmax(-1)
        outside_MK = functional.pad(outside_MK, (0, 1))
    kd_M = (teacher_MK.exp() * (teacher_MK - student_MK).masked_fill(outside_MK, 0)).sum(-1)
    if objective.tail == "sampled":
        if student_MS is None or not student_MS.shape[1]:
            raise ValueError("tail `sampled` needs tail samples, but there are none")
        log_rest_M1 = _log_rest(teacher_MK)
        kd_M = kd_M + (log_rest_M1.exp() * (log_rest_M1 - student_MS).masked_fill(student_MS.isneginf(), 0)).mean(-1)
    return mlm_M, temperature**2 * kd_M


def _log_rest(logprobs_MK: torch.Tensor) -> torch.Tensor:
    """log(1 - sum exp), [M, 1]."""
    mass = logprobs_MK.logsumexp(-1, keepdim=True).clamp(max=HIGHEST_LOG_MASS)
    return torch.log(-torch.expm1(mass))
