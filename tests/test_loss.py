"""The sparse, chunked loss against its dense definition in float64."""

import pytest
import torch
from torch.nn import functional

import trainer.loss
from trainer.loss import TAILS, distillation_loss

M, H, V, K = 13, 7, 41, 5


def problem(dtype=torch.float64, mass: float = 0.6, seed: int = 0):
    """(hidden, weight, bias, labels, topk_ids, topk_logprobs): a teacher whose top-k hold about `mass`."""
    torch.manual_seed(seed)
    hidden, weight, bias = torch.randn(M, H), torch.randn(V, H), torch.randn(V)
    labels = torch.randint(V, (M,))
    ids = torch.stack([torch.randperm(V)[:K] for _ in range(M)])
    share = torch.rand(M, K).sort(descending=True).values
    logprobs = (share / share.sum(-1, keepdim=True) * mass).log()
    return *(x.to(dtype).requires_grad_() for x in (hidden, weight, bias)), labels, ids, logprobs.to(dtype)


def dense(hidden, weight, bias, labels, ids, logprobs, lam, tail):
    """The formulas of the docstring over the whole [M, V] matrix, with torch's own losses."""
    student = (hidden @ weight.T + bias).log_softmax(-1)
    mlm = functional.cross_entropy(hidden @ weight.T + bias, labels, reduction="sum")
    teacher = torch.zeros(len(labels), V, dtype=student.dtype).scatter(1, ids, logprobs.exp())
    if tail == "renormalize":
        kd = functional.kl_div(student, teacher / teacher.sum(-1, keepdim=True), reduction="sum")
    elif tail == "ignore":
        kd = functional.kl_div(student, teacher, reduction="sum")
    else:
        rest = torch.ones(len(labels), V, dtype=torch.bool).scatter(1, ids, False)
        outside = (student.exp() * rest).sum(-1).log()
        kd = functional.kl_div(student, teacher, reduction="sum") + functional.kl_div(
            outside, 1 - teacher.sum(-1), reduction="sum"
        )
    return lam * kd + (1 - lam) * mlm


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("chunk_logits", [1, 3 * V, 2**24])
def test_value_and_gradients_are_the_dense_ones(monkeypatch, tail, lam, chunk_logits):
    monkeypatch.setattr(trainer.loss, "_CHUNK_LOGITS", chunk_logits)
    ours, theirs = problem(), problem()
    found = distillation_loss(*ours, lam, tail).total
    expected = dense(*theirs, lam, tail)
    torch.testing.assert_close(found, expected)
    # A factor, since the trainer divides by the number of positions.
    (found / 7).backward()
    (expected / 7).backward()
    for mine, reference in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


@pytest.mark.parametrize("tail", TAILS)
def test_predictions_outside_a_trimmed_vocabulary_are_tail(tail):
    """As if they were not in the list: each position against the dense loss over what is inside."""
    ours, theirs = problem(), problem()
    ids, logprobs = ours[4].clone(), ours[5].clone()
    inside = [number % (ids.shape[1] + 1) for number in range(M)]
    for row, count in enumerate(inside):
        ids[row, count:], logprobs[row, count:] = 0, -torch.inf
    found = distillation_loss(*ours[:4], ids, logprobs, 0.7, tail).total
    hidden, weight, bias, labels, ids, logprobs = theirs
    expected = 0
    for i, k in enumerate(inside):
        row = (hidden[[i]], weight, bias, labels[[i]], ids[[i], :k], logprobs[[i], :k])
        # With nothing inside there is nothing to distil: 0.3 of the MLM loss is left.
        expected += dense(*row, 0.7, tail) if k else 0.3 * dense(*row, 0.0, "ignore")
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    for mine, reference in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


@pytest.mark.parametrize("tail", TAILS)
def test_gradcheck(tail):
    *parameters, labels, ids, logprobs = problem()
    assert torch.autograd.gradcheck(
        lambda *x: distillation_loss(*x, labels, ids, logprobs, 0.4, tail).total, parameters
    )


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_teacher_whose_top_k_hold_everything(tail, dtype):
    *parameters, labels, ids, logprobs = problem(dtype, mass=1.0)
    # As float16 stores it, the mass may even exceed 1.
    logprobs = (logprobs.half() + 1e-4).to(dtype)
    losses = distillation_loss(*parameters, labels, ids, logprobs, 0.5, tail)
    losses.total.backward()
    assert torch.isfinite(losses.kd_M).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in parameters)


def test_a_student_that_is_sure_of_the_top_k():
    *parameters, labels, ids, logprobs = problem(torch.float32)
    with torch.no_grad():
        parameters[2][ids[0]] += 60
    losses = distillation_loss(*parameters, labels, ids, logprobs, 1.0, "bucket")
    losses.total.backward()
    assert torch.isfinite(losses.kd_M).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in parameters)


def test_distilling_a_model_into_itself_costs_nothing():
    hidden, weight, bias, labels, *_ = problem()
    logprobs, ids = (hidden @ weight.T + bias).log_softmax(-1).detach().topk(K)
    kd = distillation_loss(hidden, weight, bias, labels, ids, logprobs, 1.0, "bucket").kd_M
    torch.testing.assert_close(kd, torch.zeros_like(kd))


def test_without_predictions_only_the_mlm_loss_is_left():
    hidden, weight, bias, labels, ids, logprobs = problem()
    losses = distillation_loss(hidden, weight, bias, labels, ids[:, :0], logprobs[:, :0], 0.0)
    torch.testing.assert_close(
        losses.total, functional.cross_entropy(hidden @ weight.T + bias, labels, reduction="sum")
    )
    assert (losses.kd_M == 0).all()


def test_under_autocast_it_is_within_bfloat16_of_float64():
    ours, theirs = problem(torch.float32), problem()
    with torch.autocast("cpu", torch.bfloat16):
        found = distillation_loss(*ours, 0.5).total
    expected = dense(*theirs, 0.5, "bucket")
    found.backward()
    expected.backward()
    # bfloat16 has 8 bits; the logits are sums of H products of order one.
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2**-6, atol=0)
    for mine, reference in zip(ours[:3], theirs[:3], strict=True):
        scale = reference.grad.abs().max()
        torch.testing.assert_close(mine.grad.double() / scale, reference.grad / scale, rtol=0, atol=2**-5)


def test_evaluation_makes_no_gradients():
    with torch.no_grad():
        losses = distillation_loss(*problem(), 0.5)
    assert not losses.total.requires_grad
