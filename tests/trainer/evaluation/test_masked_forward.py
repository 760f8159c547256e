"""Logits at chosen positions are those of the plain model, whatever its architecture."""

import numpy as np
import pytest
import torch

from schemas.errors import UserError
from tests.support.architectures import LONGEST, tiny
from trainer.evaluation.masked_forward import MaskedForward

IDS = np.random.default_rng(0).integers(5, 100, LONGEST // 2)
LENGTHS = np.array([5, 12, 9, 12, 3, 5])


@pytest.mark.parametrize(
    ("model_type", "padding_matters", "head_everywhere"),
    [
        ("bert", False, False),
        ("xlm-roberta", False, False),
        ("deberta-v2", False, False),
        ("modernbert", False, False),
        ("fnet", True, False),
        ("convbert", True, False),
        ("mean over the sequence", True, True),
    ],
)
def test_logits_are_those_of_a_plain_loop(model_type, padding_matters, head_everywhere):
    model = tiny("bert" if "mean" in model_type else model_type)
    if "mean" in model_type:
        model.cls.register_forward_pre_hook(lambda _, states: (states[0] + states[0].mean(1, keepdim=True),))
    forward = MaskedForward(model, IDS, pad_id=1, where="models.m")
    assert (forward.padding_matters, forward.head_everywhere) == (padding_matters, head_everywhere)
    generator = np.random.default_rng(1)
    ids = generator.integers(5, 100, LENGTHS.sum())
    ends = np.cumsum(LENGTHS)
    scored = []
    for batch in forward.batches(LENGTHS, 30):
        rows = [ids[ends[number] - LENGTHS[number] : ends[number]] for number in batch]
        ids_BL, mask_BL = forward.pad(np.concatenate(rows), LENGTHS[batch])
        assert ids_BL.size <= 30
        assert not padding_matters or mask_BL.all()
        positions = [(index, position) for index, row in enumerate(rows) for position in (0, len(row) - 1)]
        rows_M = np.array([index * ids_BL.shape[1] + position for index, position in positions])
        labels_M = ids_BL.ravel()[rows_M]
        logits_MV = forward.logits(ids_BL, mask_BL, rows_M)
        logprobs_M = forward.log_probabilities(ids_BL, mask_BL, rows_M, labels_M)
        for (index, position), logits_V, logprob in zip(positions, logits_MV, logprobs_M, strict=True):
            with torch.inference_mode():
                expected_V = model(input_ids=torch.from_numpy(rows[index][None])).logits[0, position]
            torch.testing.assert_close(logits_V, expected_V, rtol=1e-4, atol=1e-4)
            assert logprob == pytest.approx(expected_V.log_softmax(0)[rows[index][position]].item(), abs=1e-4)
        scored += batch.tolist()
    assert sorted(scored) == list(range(len(LENGTHS)))


def test_the_model_is_left_as_it_was():
    model = tiny("bert")
    MaskedForward(model, IDS, pad_id=1, where="models.m").close()
    assert not model.base_model._forward_hooks


def test_a_model_without_logits_at_each_token_is_refused():
    with pytest.raises(UserError, match="models.m: its model does not give finite logits for every token"):
        MaskedForward(tiny("perceiver"), IDS, pad_id=1, where="models.m")
