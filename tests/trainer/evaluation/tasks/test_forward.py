"""Forward passes in batches, compared with one input at a time."""

import pytest
import torch
from transformers import AutoTokenizer

from schemas.errors import UserError
from tests.support.architectures import tiny
from trainer.evaluation.tasks.forward import forward_by_length


@pytest.mark.parametrize("model_type", ["bert", "fnet", "convbert", "funnel", "mpnet", "luke", "reformer"])
def test_no_output_depends_on_what_else_is_in_its_batch(model_type, teachers):
    model = tiny(model_type).base_model
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece", padding_side="left")
    inputs = [
        {"input_ids": [10 + (7 * row + place) % 80 for place in range(length)]}
        | ({"attention_mask": [1] * length} if model_type != "fnet" else {})
        for row, length in enumerate([5, 12, 7, 12, 6, 9])
    ]
    seen = []
    for rows, output in forward_by_length(model, tokenizer, inputs, 1000):
        for row, hidden_LH in zip(rows, output.last_hidden_state, strict=True):
            with torch.no_grad():
                alone = model(torch.tensor([inputs[row]["input_ids"]])).last_hidden_state[0]
            torch.testing.assert_close(hidden_LH[: len(alone)], alone, rtol=1e-3, atol=1e-3)
            seen.append(row)
    assert sorted(seen) == list(range(6))


INPUTS = [{"input_ids": [10, 20, 30], "attention_mask": [1] * 3}, {"input_ids": [40] * 6, "attention_mask": [1] * 6}]


@pytest.mark.parametrize("model_type", ["bart", "funnel"])
def test_hidden_states_that_are_not_of_tokens_are_refused(model_type, teachers):
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    with pytest.raises(UserError, match="does not give one hidden state for each token"):
        list(forward_by_length(tiny(model_type).base_model, tokenizer, INPUTS, 100, output_hidden_states=True))


def test_values_that_are_not_finite_are_refused(teachers):
    model = tiny("bert")
    with torch.no_grad():
        model.base_model.embeddings.word_embeddings.weight[40] = 1e38
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    with pytest.raises(UserError, match="gives NaN or infinite values; its weights are damaged"):
        list(forward_by_length(model, tokenizer, INPUTS, 100))
