"""One training step: its weights, and steps that are left out."""

import pytest
import torch

from schemas.predictions import open_predictions
from tests.support.readers import reader, take
from trainer.config import DistillationConfig, OptimizerConfig
from trainer.loop.step import apply_gradients, language_weights, make_optimizer, owned_tokens, position_weights


def test_a_step_left_out_changes_nothing():
    parameter = torch.nn.Parameter(torch.ones(3))
    module = torch.nn.ParameterList([parameter])
    optimizer, scheduler = make_optimizer(module, OptimizerConfig(lr_scheduler_type="constant_with_warmup"), 10)
    for gradient, is_bad in [(1.0, False), (torch.nan, True), (torch.inf, True), (2.0, False)]:
        before = [parameter.detach().clone(), *(x.clone() for x in optimizer.state.get(parameter, {}).values())]
        parameter.grad = torch.tensor([1.0, gradient, 1.0])
        assert apply_gradients(module, optimizer, scheduler, 1.0).item() is is_bad
        after = [parameter.detach(), *optimizer.state[parameter].values()]
        assert all(map(torch.equal, before, after)) is is_bad
        assert torch.isfinite(parameter).all()


def test_lambda_goes_from_one_to_the_other():
    config = DistillationConfig(kd_weight=1, final_kd_weight=0, languages={"hi": {"kd_weight": 0.25}})
    linear = [language_weights(config, ["en", "hi"], step, 5).tolist() for step in range(1, 6)]
    assert linear == [[1, 0.25], [0.75, 0.25], [0.5, 0.25], [0.25, 0.25], [0, 0.25]]
    cosine = config.model_copy(update={"schedule": "cosine"})
    actual = [language_weights(cosine, ["en"], step, 5).item() for step in range(1, 6)]
    assert actual == pytest.approx([1, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2, 0])
    assert config.distils and not DistillationConfig(kd_weight=0).distils


def test_confidence_multiplies_lambda(predictions):
    batch = take(reader(predictions), 1)[0]
    weights = torch.full((3,), 0.8)
    assert torch.equal(position_weights(batch, weights, 0), torch.full_like(batch.label_logprobs_M, 0.8))
    torch.testing.assert_close(position_weights(batch, weights, 2), 0.8 * batch.label_logprobs_M.exp() ** 2)


def test_owned_tokens_hold_all_that_a_teacher_says(predictions):
    """Normalising over owned tokens therefore never leaves out a label or a prediction."""
    opened = open_predictions(str(predictions))
    source = reader(predictions)
    owned_TV = owned_tokens(opened.vocabulary, source.teachers)
    assert owned_TV.sum(1).tolist() == [len(set(opened.vocabulary.to_merged(t)) - {-1}) for t in source.teachers]
    for batch in take(source, 20):
        columns = torch.cat([batch.labels_M[:, None], batch.topk_ids_MK], 1)
        assert owned_TV[batch.teacher_M].gather(1, columns).all()
