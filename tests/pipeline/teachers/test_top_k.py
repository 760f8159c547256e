"""Top-k and the normalizer of large vocabularies, compared with torch's."""

import pytest
import torch

from pipeline.teachers.top_k import TopK, log_normalizer
from tests.support.training import NEEDS_COMPILER

NOTHING = torch.empty(0, dtype=torch.int64)


def random_logits(rows: int, vocabulary: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(vocabulary)
    return (torch.randn(rows, vocabulary, generator=generator) * 4).to(dtype)


def assert_torchs_own(logits: torch.Tensor, outside: torch.Tensor = NOTHING, compiled: bool = False) -> None:
    """Compares with float64, and with `topk` of all logits that are not outside."""
    exact = logits.double().logsumexp(-1)
    inside = logits.clone()
    inside[:, outside] = -torch.inf
    normalizer, values, ids = TopK(8, outside, compiled)(logits)
    torch.testing.assert_close(normalizer.double(), exact, rtol=0, atol=2e-6 * float(exact.abs().max()))
    assert torch.equal(values, inside.topk(8).values)
    assert torch.equal(inside.gather(1, ids), values) and all(len(set(row)) == 8 for row in ids.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 9), (3, 1000), (7, 5003), (2, 700_001)])
def test_top_k_and_normalizer_are_torchs_own(rows, vocabulary, dtype):
    logits = random_logits(rows, vocabulary, dtype)
    assert torch.equal(log_normalizer(logits), TopK(8, NOTHING)(logits.clone())[0])
    below = logits.clone()
    below[0, 3] = -torch.inf
    assert_torchs_own(logits)
    assert_torchs_own(below)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ids_outside_count_in_the_normalizer_only(dtype):
    """The ids outside include the most probable ones, a whole block, and the remainder after the last block."""
    logits = random_logits(5, 5003, dtype)
    outside = torch.cat([logits.topk(3).indices.flatten().unique(), torch.arange(1280, 1408), torch.arange(4990, 5003)])
    assert_torchs_own(logits, outside.unique())


@pytest.mark.parametrize("lowest", [-torch.inf, torch.finfo(torch.float32).min])
def test_logits_that_are_never_predicted(lowest):
    """Some models produce such logits; here they fill whole blocks."""
    logits = random_logits(3, 5003, torch.float32)
    logits[:, :2000] = lowest
    assert_torchs_own(logits)


@pytest.mark.parametrize("fault", [torch.nan, torch.inf])
def test_what_is_not_finite_shows_in_the_normalizer(fault):
    logits = random_logits(2, 5003, torch.float32)
    logits[1, 700] = fault
    assert TopK(8, NOTHING)(logits)[0].isfinite().tolist() == [True, False]


@pytest.mark.heavy
@NEEDS_COMPILER
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiled_pass_computes_the_same(dtype):
    assert_torchs_own(random_logits(7, 5003, dtype), torch.arange(20, 300), compiled=True)
    assert_torchs_own(random_logits(40, 3000, dtype), compiled=True)
