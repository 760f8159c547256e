"""The sampled tail: its formula, and its expectation over the draws compared with the dense loss and gradient."""

import pytest
import torch

import trainer.loss.sparse
from trainer.loss.objective import Objective, sparse_losses
from trainer.loss.sparse import Ownership, distillation_loss

SAMPLED = Objective("sampled")
H, V, K, S = 7, 41, 5, 3


def teacher(positions: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(float64 [M, V] log-probabilities, int64 [M, K] top-k); the top-k hold about half of the mass."""
    logits = torch.randn(positions, V, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 1.5
    logprobs = logits.log_softmax(-1)
    return logprobs, logprobs.topk(K).indices


def student(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(hidden [1, H], weight, bias), float64."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((1, H), (V, H), (V,)))


def draw(logprobs: torch.Tensor, topk: torch.Tensor, samples: int, seed: int = 2) -> torch.Tensor:
    """int64 [M, S]: samples drawn with torch's own sampling."""
    tail = logprobs.exp().scatter(1, topk, 0)
    return tail.multinomial(samples, replacement=True, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk_logits", [1, 2**24])
@pytest.mark.parametrize("by_teacher", [False, True])
def test_value_and_gradients_are_those_of_the_formula(monkeypatch, chunk_logits, by_teacher):
    """The formula runs over the whole [M, V] matrix, with tokens drawn twice and samples that were trimmed away."""
    monkeypatch.setattr(trainer.loss.sparse, "_CHUNK_LOGITS", {"cpu": chunk_logits})
    positions = 6
    logprobs, topk = teacher(positions)
    tail_ids = draw(logprobs, topk, S)
    tail_ids[0], tail_ids[1, 1:], tail_ids[2] = tail_ids[0, 0], -1, -1
    labels, lam = torch.arange(positions), torch.linspace(0.2, 1, positions, dtype=torch.float64)
    owned = torch.ones(1, V, dtype=torch.bool)
    if by_teacher:
        used = torch.cat([topk.flatten(), tail_ids.flatten().clamp(min=0), labels]).unique()
        owned[0, [v for v in range(V) if v not in used.tolist()]] = False
        assert not owned.all()

    def parameters():
        hidden, weight, bias = student()
        spread = torch.randn(positions, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        return [x.clone().requires_grad_() for x in (hidden * spread, weight, bias)]

    ours, (hidden, weight, bias) = parameters(), parameters()
    kept = logprobs.gather(1, topk)
    ownership = Ownership(owned, torch.zeros(positions, dtype=torch.long)) if by_teacher else None
    actual = distillation_loss(*ours, labels, topk, kept, lam, SAMPLED, ownership, tail_ids).total

    logits = hidden @ weight.T + bias
    compared = logits.masked_fill(~owned, -torch.inf).log_softmax(-1)
    expected = 0
    for m in range(positions):
        rest = 1 - kept[m].exp().sum()
        kd = sum(kept[m, k].exp() * (kept[m, k] - compared[m, topk[m, k]]) for k in range(K))
        kd = kd + sum(rest / S * (rest.log() - compared[m, j]) for j in tail_ids[m].tolist() if j >= 0)
        expected = expected + lam[m] * kd - (1 - lam[m]) * logits[m].log_softmax(-1)[labels[m]]
    torch.testing.assert_close(actual, expected)
    actual.backward()
    expected.backward()
    for mine, reference in zip(ours, (hidden, weight, bias), strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


DRAWS = 20_000


def estimates(objective: Objective, samples: int):
    """For one position: kd [DRAWS] and its gradient [DRAWS, H] by draw, and the mean gradient of the bias, [V]."""
    logprobs, topk = teacher(1)
    hidden, weight, bias = student()
    many = hidden.expand(DRAWS, -1).clone().requires_grad_()
    bias.requires_grad_()
    repeated = topk.expand(DRAWS, -1)
    tail_ids = draw(logprobs.expand(DRAWS, -1), repeated, samples)
    ones = torch.ones(DRAWS, dtype=torch.float64)
    kept = logprobs.gather(1, topk).expand(DRAWS, -1)
    losses = distillation_loss(
        many, weight, bias, torch.zeros(DRAWS), repeated, kept, ones, objective, tail_ids_MS=tail_ids
    )
    losses.total.backward()
    return losses.kd_M, many.grad, bias.grad / DRAWS


def dense():
    """For the dense loss: (KL, gradient [H], gradient of the bias [V], tail mass, entropy within the tail)."""
    logprobs, topk = teacher(1)
    hidden, weight, bias = (x.requires_grad_() for x in student())
    kl = torch.nn.functional.kl_div(
        (hidden @ weight.T + bias).log_softmax(-1), logprobs, log_target=True, reduction="sum"
    )
    kl.backward()
    tail = logprobs.exp().scatter(1, topk, 0)
    within = tail / tail.sum()
    entropy = -(within * within.clamp(min=1e-300).log()).sum()
    return kl.detach(), hidden.grad[0], bias.grad, tail.sum(), entropy


def z_scores(draws: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """By how many standard errors the mean over the draws differs from `expected`."""
    return (draws.mean(0) - expected) / (draws.std(0) / len(draws) ** 0.5)


@pytest.mark.parametrize("samples", [1, 4])
def test_over_many_draws_it_is_the_dense_loss(samples):
    """Seeds are fixed; 5 standard errors are exceeded by chance once in a million."""
    kd, gradient, of_bias = estimates(SAMPLED, samples)
    kl, dense_gradient, dense_of_bias, tail, entropy = dense()
    assert z_scores(kd, kl + tail * entropy).abs() < 5
    assert z_scores(gradient, dense_gradient).abs().max() < 5
    logprobs, topk = teacher(1)
    share = logprobs.exp().scatter(1, topk, 0)[0] / tail
    errors = tail * (share * (1 - share) / (samples * DRAWS)).sqrt()
    outside = share > 0
    assert ((of_bias - dense_of_bias)[outside] / errors[outside]).abs().max() < 5
    torch.testing.assert_close(of_bias[~outside], dense_of_bias[~outside])


def test_the_test_would_notice_a_bias():
    """The biased estimates are the top-k alone, with any treatment of the tail, and samples whose weight is 5 % off."""
    _, gradient, _ = estimates(SAMPLED, 4)
    _, expected, _, _, _ = dense()
    error = gradient.std(0) / DRAWS**0.5
    of_top_k = {tail: estimates(Objective(tail), 4)[1][0] for tail in ("bucket", "renormalize", "ignore")}
    for biased in of_top_k.values():
        assert ((biased - expected) / error).abs().max() > 50
    wrong = of_top_k["ignore"] + 1.05 * (gradient - of_top_k["ignore"])
    assert z_scores(wrong, expected).abs().max() > 5


def test_over_many_draws_it_is_the_dense_loss_where_predictions_were_trimmed_away():
    """Two of the top-k are outside the vocabulary: their mass is part of the tail, and so are samples of them."""
    logprobs, topk = teacher(1)
    kept = logprobs.gather(1, topk)
    kept[0, [1, 3]] = -torch.inf
    inside = torch.ones(V, dtype=torch.bool)
    inside[topk[0, [1, 3]]] = False
    # Tokens outside are drawn like the rest of the tail, and stored as -1.
    tail_ids = draw(logprobs.expand(DRAWS, -1), topk[:, [0, 2, 4]].expand(DRAWS, -1), 2)
    tail_ids[~inside[tail_ids]] = -1
    hidden, weight, bias = student()
    many = hidden.expand(DRAWS, -1).clone().requires_grad_()
    ones = torch.ones(DRAWS, dtype=torch.float64)
    losses = distillation_loss(
        many, weight, bias, torch.zeros(DRAWS), topk.expand(DRAWS, -1), kept.expand(DRAWS, -1), ones, SAMPLED,
        tail_ids_MS=tail_ids,
    )  # fmt: skip
    losses.total.backward()
    hidden = hidden.clone().requires_grad_()
    ours = (hidden @ weight.T + bias).log_softmax(-1)[0]
    # The dense cross-entropy over the tokens inside the vocabulary; the rest does not depend on the student.
    (-(logprobs[0].exp() * ours)[inside].sum()).backward()
    assert z_scores(many.grad, hidden.grad[0]).abs().max() < 5


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_in_lower_precision_it_is_nearly_that_of_float64(dtype, rounding):
    positions = 50
    logprobs, topk = teacher(positions)
    tail_ids = draw(logprobs, topk, S)
    hidden, weight, bias = student()
    spread = torch.randn(positions, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    half = torch.full((positions,), 0.5)
    kept = logprobs.gather(1, topk)

    def loss_and_gradient(of: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        rows, *head = (x.to(of).requires_grad_() for x in (hidden * spread, weight, bias))
        losses = distillation_loss(
            rows, *head, torch.arange(positions) % V, topk, kept, half.to(of), SAMPLED, tail_ids_MS=tail_ids
        )
        losses.total.backward()
        return losses.kd_M.double(), rows.grad.double()

    for actual, expected in zip(loss_and_gradient(dtype), loss_and_gradient(torch.float64), strict=True):
        assert torch.isfinite(actual).all() and (actual - expected).norm() < rounding * expected.norm()


def test_without_samples_it_is_refused():
    logprobs, topk = teacher(2)
    kept = logprobs.gather(1, topk)
    with pytest.raises(ValueError, match="needs tail samples"):
        sparse_losses(kept[:, 0], kept, kept, SAMPLED, kept[:, :0])
