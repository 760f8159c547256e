"""Samples of the tail, compared with the distribution that they are drawn from."""

import numpy as np
import pytest
import torch

import pipeline.teachers.tail
from pipeline.teachers.tail import sample_tail

K, V = 3, 30


def naive(logits: torch.Tensor, topk_ids: list[int]) -> np.ndarray:
    """float64 [V]: the distribution of one row's tail."""
    weights = np.exp(logits.double().numpy())
    weights[topk_ids] = 0
    return weights / weights.sum()


def p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    """The p-value of Pearson's chi-square test over the tokens that can be drawn."""
    counts, expected = counts[expected > 0], expected[expected > 0] * counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2), torch.tensor(statistic / 2)))


def uniforms(rows: int, samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((rows, samples)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_are_drawn_in_proportion_to_their_probabilities(dtype):
    generator = torch.Generator().manual_seed(1)
    logits = (torch.randn(4, V, generator=generator) * 1.5).to(dtype)
    logits[:, 7] = -torch.inf  # no token stands for it
    topk = logits.topk(K).indices
    drawn = sample_tail(logits, topk, uniforms(4, 100_000)).numpy()
    for row in range(4):
        expected = naive(logits[row], topk[row].tolist())
        counts = np.bincount(drawn[row], minlength=V)
        assert counts[expected == 0].sum() == 0
        assert p_value(counts, expected) > 1e-3
        # The test would notice that one token is drawn a tenth too rarely.
        wrong = np.where(expected == expected.max(), 1.1 * expected, expected)
        assert p_value(counts, wrong / wrong.sum()) < 1e-6


def test_each_sample_is_the_inverse_of_the_cumulative_distribution():
    logits = torch.randn(5, 700, generator=torch.Generator().manual_seed(2)) * 4
    topk = logits.topk(8).indices
    drawn = sample_tail(logits, topk, uniforms(5, 64))
    for row, u in enumerate(uniforms(5, 64).numpy()):
        ends = np.cumsum(naive(logits[row], topk[row].tolist()))
        assert (drawn[row].numpy() == np.searchsorted(ends, u, side="right")).all()


def test_a_row_is_sampled_alike_in_any_chunk(monkeypatch):
    logits = torch.randn(9, 500, generator=torch.Generator().manual_seed(3))
    topk, u = logits.topk(8).indices, uniforms(9, 16)
    together = sample_tail(logits, topk, u)
    monkeypatch.setattr(pipeline.teachers.tail, "_CHUNK", {"cpu": 1})
    assert torch.equal(together, sample_tail(logits, topk, u))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(4))
    assert torch.equal(together[order], sample_tail(logits[order], topk[order], u[order]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_tail_of_a_very_sure_teacher_is_sampled_too(dtype):
    """Relative to the first guess, its tokens underflow float32; the uniforms include both ends of [0, 1)."""
    logits = torch.full((1, 6), -torch.inf, dtype=dtype)
    logits[0, [1, 3, 4]] = torch.tensor([-150.0, 60.0, -150.0], dtype=dtype)
    u = torch.tensor([[0, 0.49, 0.51, 1 - 2.0**-53]], dtype=torch.float64)
    assert sample_tail(logits, torch.tensor([[3]]), u).tolist() == [[1, 1, 4, 4]]


def test_logits_are_left_as_they_are():
    logits = torch.randn(2, 40, generator=torch.Generator().manual_seed(5))
    before = logits.clone()
    sample_tail(logits, logits.topk(2).indices, uniforms(2, 3))
    assert torch.equal(logits, before)
