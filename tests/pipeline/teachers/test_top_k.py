"""Top-k and the normalizer of large vocabularies, beside torch's."""

import pytest
import torch

from pipeline.teachers.top_k import log_normalizer, top_k


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 9), (3, 1000), (7, 5003), (2, 700_001)])
def test_top_k_and_normalizer_are_torchs_own(rows, vocabulary, dtype):
    generator = torch.Generator().manual_seed(vocabulary)
    logits = (torch.randn(rows, vocabulary, generator=generator) * 4).to(dtype)
    values, ids = top_k(logits, 8)
    assert torch.equal(values, logits.topk(8).values)
    assert torch.equal(logits.gather(1, ids), values) and all(len(set(row)) == 8 for row in ids.tolist())
    exact = logits.double().logsumexp(-1)
    torch.testing.assert_close(log_normalizer(logits).double(), exact, rtol=0, atol=2e-6 * float(exact.abs().max()))
    below = logits.clone()
    below[0, 3] = -torch.inf
    assert torch.equal(top_k(below, 8)[0], below.topk(8).values)
