"""The sparse, chunked loss, compared with its dense definition in float64."""

import pytest
import torch
from torch.nn import functional

import trainer.loss.passes
import trainer.loss.sparse
from tests.support.training import NEEDS_COMPILER
from trainer.loss.objective import TAILS, Objective
from trainer.loss.sparse import Ownership, distillation_loss

M, H, V, K = 13, 7, 41, 5
# test_objective.py tests `sampled`.
WITHOUT_SAMPLES = [tail for tail in TAILS if tail != "sampled"]


def problem(dtype=torch.float64, mass: float = 0.6, seed: int = 0):
    """(hidden, weight, bias, labels, topk_ids, topk_logprobs): a teacher whose top-k hold about `mass`."""
    torch.manual_seed(seed)
    hidden, weight, bias = torch.randn(M, H), torch.randn(V, H), torch.randn(V)
    labels = torch.randint(V, (M,))
    ids = torch.stack([torch.randperm(V)[:K] for _ in range(M)])
    share = torch.rand(M, K).sort(descending=True).values
    logprobs = (share / share.sum(-1, keepdim=True) * mass).log()
    return *(x.to(dtype).requires_grad_() for x in (hidden, weight, bias)), labels, ids, logprobs.to(dtype)


def dense(hidden, weight, bias, labels, ids, logprobs, lam, tail, temperature=1.0, owned=None):
    """The formulas of `trainer.loss.objective` over the whole [M, V] matrix, with torch's own losses."""
    logits = hidden @ weight.T + bias
    mlm = functional.cross_entropy(logits, labels, reduction="none")
    seen = logits if owned is None else logits.masked_fill(~owned, -torch.inf)
    inside = torch.zeros_like(logits, dtype=torch.bool).scatter(1, ids, True)
    if tail == "renormalize":
        teacher = torch.zeros_like(logits).scatter(1, ids, (logprobs / temperature).softmax(-1))
        student = (seen / temperature).log_softmax(-1)
        kd = functional.kl_div(student.masked_fill(~inside, 0), teacher, reduction="none").sum(-1)
    else:
        student = seen.log_softmax(-1)
        classes = student.gather(1, ids), logprobs
        if tail == "bucket":
            rests = (student.exp() * ~inside).sum(-1, keepdim=True), 1 - logprobs.exp().sum(-1, keepdim=True)
            classes = [torch.cat([top, rest.log()], -1) for top, rest in zip(classes, rests, strict=True)]
            classes = [(x / temperature).log_softmax(-1) for x in classes]
        kd = functional.kl_div(*classes, reduction="none", log_target=True).sum(-1)
    return (lam * temperature**2 * kd + (1 - lam) * mlm).sum()


def losses_of(parameters, labels, ids, logprobs, lam, tail="bucket", temperature=1.0, ownership=None, **more):
    lam = lam if torch.is_tensor(lam) else torch.full((M,), lam, dtype=torch.float64)
    return distillation_loss(*parameters, labels, ids, logprobs, lam, Objective(tail, temperature), ownership, **more)


def assert_same_gradients(ours, theirs):
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


@pytest.mark.parametrize("tail", WITHOUT_SAMPLES)
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("chunk_logits", "tile"), [(1, V), (3 * V, 16), (2**24, 1)])
def test_value_and_gradients_are_the_dense_ones(monkeypatch, tail, lam, chunk_logits, tile):
    monkeypatch.setattr(trainer.loss.sparse, "_CHUNK_LOGITS", {"cpu": chunk_logits})
    monkeypatch.setattr(trainer.loss.passes, "_AT_A_TIME", {"cpu": 2 * V})
    monkeypatch.setattr(trainer.loss.sparse, "_TILE", tile)
    ours, theirs = problem(), problem()
    actual = losses_of(ours[:3], *ours[3:], lam, tail).total
    expected = dense(*theirs, lam, tail)
    torch.testing.assert_close(actual, expected)
    # With a factor, because the trainer divides by the number of positions.
    (actual / 7).backward()
    (expected / 7).backward()
    assert_same_gradients(ours[:3], theirs[:3])


@pytest.mark.parametrize(
    ("tail", "temperature"), [("bucket", 1), ("bucket", 2.5), ("renormalize", 1), ("renormalize", 2.5)]
)
@pytest.mark.parametrize("own_part", [False, True])
def test_temperature_and_the_teachers_own_part(tail, temperature, own_part):
    """Two teachers own 30 tokens each; each position's label and top-k belong to its teacher. Lambda differs."""
    ours, theirs = problem(), problem()
    teacher_M = torch.arange(M) % 2
    owned_TV = torch.zeros(2, V, dtype=torch.bool)
    owned_TV[0, :30] = owned_TV[1, 11:] = True
    for inputs in (ours, theirs):
        inputs[3].remainder_(30).add_(11 * teacher_M)
        inputs[4].copy_(
            torch.stack([torch.randperm(30, generator=torch.Generator().manual_seed(m)) for m in range(M)])[:, :K]
        )
        inputs[4].add_(11 * teacher_M[:, None])
    lam = torch.linspace(0, 1, M, dtype=torch.float64)
    ownership = Ownership(owned_TV, teacher_M) if own_part else None
    actual = losses_of(ours[:3], *ours[3:], lam, tail, temperature, ownership).total
    expected = dense(*theirs, lam, tail, temperature, owned_TV[teacher_M] if own_part else None)
    torch.testing.assert_close(actual, expected)
    actual.backward()
    expected.backward()
    assert_same_gradients(ours[:3], theirs[:3])


def test_a_temperature_needs_a_distribution():
    with pytest.raises(ValueError, match="its temperature must be 1"):
        Objective("ignore", 2.0)
    with pytest.raises(ValueError, match="at temperature 1"):
        Objective("sampled", 2.0)


def test_temperature_keeps_the_size_of_the_gradient():
    """Because of its square, the gradient hardly depends on the temperature with logits near zero (Hinton et al.)."""
    norms = []
    for temperature in (1.0, 8.0):
        *parameters, labels, ids, _ = problem()
        small = [(x.detach() * 1e-3).requires_grad_() for x in parameters]
        teacher = (
            torch.randn(M, K, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1e-3
        ).log_softmax(-1)
        # The top-k are the whole vocabulary, so that both are distributions over the same classes.
        ids = torch.arange(K).expand(M, K)
        small[1], small[2] = small[1].detach()[:K].requires_grad_(), small[2].detach()[:K].requires_grad_()
        losses_of(small, labels % K, ids, teacher, 1.0, "renormalize", temperature).total.backward()
        norms.append(small[0].grad)
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-2, atol=1e-9)


@pytest.mark.parametrize("tail", WITHOUT_SAMPLES)
def test_predictions_outside_a_trimmed_vocabulary_are_tail(tail):
    """The loss is as if they were not in the list: each position equals the dense loss over those inside."""
    ours, theirs = problem(), problem()
    ids, logprobs = ours[4].clone(), ours[5].clone()
    inside = [number % (ids.shape[1] + 1) for number in range(M)]
    for row, count in enumerate(inside):
        ids[row, count:], logprobs[row, count:] = 0, -torch.inf
    actual = losses_of(ours[:3], ours[3], ids, logprobs, 0.7, tail).total
    hidden, weight, bias, labels, ids, logprobs = theirs
    expected = 0
    for i, k in enumerate(inside):
        row = (hidden[[i]], weight, bias, labels[[i]], ids[[i], :k], logprobs[[i], :k])
        # With nothing inside there is nothing to distil, and 0.3 of the MLM loss remains.
        expected += dense(*row, 0.7, tail) if k else 0.3 * dense(*row, 0.0, "ignore")
    torch.testing.assert_close(actual, expected)
    actual.backward()
    expected.backward()
    assert_same_gradients(ours[:3], theirs[:3])


class Repeatable(torch.autograd.Function):
    """Recomputes the loss for each backward pass, because gradcheck makes several."""

    @staticmethod
    def forward(ctx, loss, *parameters):
        ctx.loss, ctx.parameters = loss, [parameter.detach().requires_grad_() for parameter in parameters]
        return loss(*parameters)

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            total = ctx.loss(*ctx.parameters)
        return None, *torch.autograd.grad(total, ctx.parameters, grad)


@pytest.mark.parametrize(
    ("tail", "temperature", "own_part"),
    [*((tail, 1.0, False) for tail in WITHOUT_SAMPLES), ("bucket", 2.0, True), ("renormalize", 2.0, True)],
)
def test_gradcheck(tail, temperature, own_part):
    *parameters, labels, ids, logprobs = problem()
    owned_TV = torch.zeros(1, V, dtype=torch.bool)
    owned_TV[0, torch.cat([labels, ids.flatten()])] = True
    ownership = Ownership(owned_TV, torch.zeros(M, dtype=torch.long)) if own_part else None

    def loss(*x):
        return losses_of(x, labels, ids, logprobs, 0.4, tail, temperature, ownership).total

    assert torch.autograd.gradcheck(lambda *x: Repeatable.apply(loss, *x), parameters)


@pytest.mark.parametrize("tail", WITHOUT_SAMPLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_teacher_whose_top_k_hold_everything(tail, dtype):
    *parameters, labels, ids, logprobs = problem(dtype, mass=1.0)
    # With float16 rounding the mass may even exceed 1.
    logprobs = (logprobs.half() + 1e-4).to(dtype)
    losses = losses_of(parameters, labels, ids, logprobs, 0.5, tail)
    losses.total.backward()
    assert torch.isfinite(losses.kd_M).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in parameters)


def test_a_student_that_is_sure_of_the_top_k():
    *parameters, labels, ids, logprobs = problem(torch.float32)
    with torch.no_grad():
        parameters[2][ids[0]] += 60
    losses = losses_of(parameters, labels, ids, logprobs, 1.0)
    losses.total.backward()
    assert torch.isfinite(losses.kd_M).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in parameters)


def test_distilling_a_model_into_itself_costs_nothing():
    *parameters, labels, _, _ = problem()
    hidden, weight, bias = parameters
    logprobs, ids = (hidden @ weight.T + bias).log_softmax(-1).detach().topk(K)
    losses = losses_of(parameters, labels, ids, logprobs, 1.0)
    torch.testing.assert_close(losses.kd_M, torch.zeros_like(losses.kd_M))
    assert losses.agrees_M.all()


def test_what_is_measured_beside_the_loss():
    *parameters, labels, ids, logprobs = problem()
    losses = losses_of(parameters, labels, ids, logprobs, 0.5, "renormalize", 2.0)
    first = (parameters[0] @ parameters[1].T + parameters[2]).argmax(-1)
    assert torch.equal(losses.correct_M, first == labels)
    assert torch.equal(losses.agrees_M, first == ids[:, 0])
    torch.testing.assert_close(losses.kl_M.sum(), dense(*parameters, labels, ids, logprobs, 1.0, "bucket").detach())


def test_without_predictions_only_the_mlm_loss_is_left():
    *parameters, labels, ids, logprobs = problem()
    hidden, weight, bias = parameters
    losses = losses_of(parameters, labels, ids[:, :0], logprobs[:, :0], 0.0)
    torch.testing.assert_close(
        losses.total, functional.cross_entropy(hidden @ weight.T + bias, labels, reduction="sum")
    )
    assert (losses.kd_M == 0).all()


def test_gradients_are_made_once():
    *parameters, labels, ids, logprobs = problem()
    total = losses_of(parameters, labels, ids, logprobs, 0.5).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass"):
        total.backward()


# Numbers are rounded by up to 2^-8 or 2^-24 of their size. The relative error of a probability is the absolute error of
# its logit, which is up to 15 here; in float32 the exponentials and their sums have rounding errors of the same size.
@pytest.mark.parametrize(("dtype", "rounding", "times"), [(torch.bfloat16, 2**-8, 8), (torch.float32, 2**-24, 16)])
def test_it_is_within_the_precision_of_float64(dtype, rounding, times):
    ours, theirs = problem(torch.float32), problem()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        actual = losses_of(ours[:3], *ours[3:], 0.5).total
    expected = dense(*theirs, 0.5, "bucket")
    actual.backward()
    expected.backward()
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=4 * rounding, atol=0)
    for mine, reference in zip(ours[:3], theirs[:3], strict=True):
        scale = reference.grad.abs().max()
        torch.testing.assert_close(mine.grad.double() / scale, reference.grad / scale, rtol=0, atol=times * rounding)


def test_tiles_do_not_add_up_rounding_errors(monkeypatch):
    """LayerNorm gives bfloat16 under a CPU's autocast, but the gradient is rounded once, not once per tile."""
    torch.manual_seed(0)
    tokens, hidden = 4096, torch.randn(64, 32).bfloat16()
    weight, labels = torch.randn(tokens, 32) / 8, torch.randint(tokens, (64,))

    def gradient(tile: int) -> torch.Tensor:
        monkeypatch.setattr(trainer.loss.sparse, "_TILE", tile)
        hidden_MH = hidden.clone().requires_grad_()
        nothing = torch.zeros(64, 0)
        with torch.autocast("cpu", torch.bfloat16):
            losses = distillation_loss(
                hidden_MH,
                weight.requires_grad_(),
                torch.zeros(tokens),
                labels,
                nothing.long(),
                nothing,
                torch.zeros(64),
            )
        losses.total.backward()
        assert hidden_MH.grad.dtype == torch.bfloat16
        return hidden_MH.grad.double()

    exact = hidden.double().requires_grad_()
    functional.cross_entropy(exact @ weight.double().T, labels, reduction="sum").backward()
    one, many = ((gradient(tile) - exact.grad).norm() for tile in (tokens, 64))
    assert many < 1.2 * one


@pytest.mark.parametrize("tail", WITHOUT_SAMPLES)
def test_a_token_in_several_columns_has_the_sum_of_their_gradients(tail):
    """At all positions the label is the first guess, and a prediction outside the vocabulary has the same id."""
    ours, theirs = problem(), problem()
    for inputs in (ours, theirs):
        inputs[3].copy_(inputs[4][:, 0])
    ours[4][:, -1], ours[5][:, -1] = ours[3], -torch.inf
    actual = losses_of(ours[:3], *ours[3:], 0.5, tail).total
    expected = dense(*theirs[:4], theirs[4][:, :-1], theirs[5][:, :-1], 0.5, tail)
    actual.backward()
    expected.backward()
    assert_same_gradients(ours[:3], theirs[:3])


def test_a_token_outside_the_teachers_part_may_be_sure():
    """Its probability is e^200 times that of the part, which float32 cannot represent."""
    ours, theirs = problem(torch.float32), problem()
    owned_TV = torch.ones(1, V, dtype=torch.bool)
    outside = next(token for token in range(V) if token not in {*ours[3].tolist(), *ours[4].flatten().tolist()})
    owned_TV[0, outside] = False
    for inputs in (ours, theirs):
        inputs[2].data[outside] += 200
    ownership = Ownership(owned_TV, torch.zeros(M, dtype=torch.long))
    lam = torch.full((M,), 0.5)
    losses_of(ours[:3], *ours[3:], lam, "ignore", 1.0, ownership).total.backward()
    dense(*theirs, lam.double(), "ignore", 1.0, owned_TV.expand(M, V)).backward()
    for mine, reference in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(mine.grad.double(), reference.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_adds_a_product_up_in_float32():
    left, right = (torch.randn(70, 70, device="cuda").bfloat16() for _ in range(2))
    total = torch.randn(70, 70, device="cuda")
    expected = total.double() + left.double() @ right.double()
    trainer.loss.sparse._add_product_(total, left, right)
    torch.testing.assert_close(total.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.heavy
@NEEDS_COMPILER
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("tail", "temperature", "own_part"),
    [("bucket", 1.0, False), ("renormalize", 2.0, False), ("bucket", 1.0, True), ("renormalize", 2.0, True)],
)
def test_compiled_passes_compute_the_same(monkeypatch, tail, temperature, own_part, dtype):
    """There are chunks of two sizes; products in bfloat16 are rounded in the same way."""
    monkeypatch.setattr(trainer.loss.sparse, "_CHUNK_LOGITS", {"cpu": 5 * V})
    torch._dynamo.reset()
    is_half = dtype == torch.bfloat16
    plain, compiled = (problem(torch.float32 if is_half else dtype) for _ in range(2))
    owned_TV = torch.ones(2, V, dtype=torch.bool)
    owned_TV[:, sorted({*range(V)} - {*plain[3].tolist(), *plain[4].flatten().tolist()})] = False
    owned_TV[1] = True
    ownership = Ownership(owned_TV, torch.arange(M) % 2) if own_part else None
    totals = []
    for inputs, is_compiled in ((plain, False), (compiled, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            losses = losses_of(inputs[:3], *inputs[3:], 0.5, tail, temperature, ownership, compiled=is_compiled)
        losses.total.backward()
        totals.append(losses.total)
    torch.testing.assert_close(totals[1], totals[0])
    for one, other in zip(compiled[:3], plain[:3], strict=True):
        # A gradient between two bfloat16 numbers may be rounded to either.
        torch.testing.assert_close(one.grad, other.grad, **({"rtol": 2**-7, "atol": 2**-7} if is_half else {}))


def test_evaluation_makes_no_gradients():
    with torch.no_grad():
        *parameters, labels, ids, logprobs = problem()
        losses = losses_of(parameters, labels, ids, logprobs, 0.5)
    assert not losses.total.requires_grad
