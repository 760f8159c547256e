"""Teacher inference against plain transformers: full logits, one sequence at a time."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from pipeline.config import TeacherConfig
from pipeline.prediction import Predictor
from schemas.errors import UserError

TOP_K = 5


class Tokenizer:
    """As much of a `TeacherTokenizer` as predicting reads; ids 90.. have no token."""

    name = "t"
    tokens = {own: str(own) for own in range(90)}
    roles = {"pad": 1, "mask": 4}


def tiny(model_type: str):
    settings = {
        "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 40, "pad_token_id": 1, "initializer_range": 0.5, "embedding_size": 16,
    }  # fmt: skip
    if model_type == "distilbert":
        settings |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    if model_type == "modernbert":
        settings |= {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()


def ragged(count: int, seed: int = 0):
    """(input ids, lengths, targets, labels) of `count` rows, as masking gives them."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 30, count)
    ids = random.integers(5, 90, lengths.sum()).astype(np.int32)
    targets = np.flatnonzero(random.random(len(ids)) < 0.3)
    return ids, lengths, targets, random.integers(5, 90, len(targets)).astype(np.int32)


MODEL_TYPES = [
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "albert",
    "deberta-v2",
    "modernbert",
]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@torch.no_grad()
def test_predictions_are_the_full_forwards(model_type):
    model = tiny(model_type)
    ids, lengths, targets, labels = ragged(12)
    # The oracle first: predicting hooks into the model.
    logprobs = []
    for start, length in zip(np.cumsum(lengths) - lengths, lengths, strict=True):
        row = torch.from_numpy(ids[start : start + length].astype(np.int64))[None]
        logprobs.append(model(input_ids=row).logits[0].log_softmax(-1))
    expected = torch.cat(logprobs)[targets]
    found = Predictor(model, Tokenizer, TeacherConfig(model="", languages=["en"]), TOP_K).predict(
        ids, lengths, targets, labels, batch_tokens=64
    )
    np.testing.assert_allclose(found.label_logprobs, expected[range(len(labels)), labels], atol=2e-4)
    # Ids without a token are in the normaliser and never among the top-k.
    top, top_ids = expected[:, :90].topk(TOP_K)
    np.testing.assert_allclose(found.topk_logprobs, top, atol=2e-4, rtol=2**-11)
    assert (np.diff(found.topk_logprobs.astype(np.float32), axis=1) <= 0).all()
    gap = (top[:, :-1] - top[:, 1:]).min(1).values > 1e-3
    assert gap.float().mean() > 0.5
    assert (found.topk_ids[gap] == top_ids[gap].numpy()).all()


def test_not_a_number_stops_the_run():
    model = tiny("bert")
    with torch.no_grad():
        model.get_input_embeddings().weight[50] = torch.nan
    predictor = Predictor(model, Tokenizer, TeacherConfig(model="", languages=["en"]), TOP_K)
    with pytest.raises(UserError, match="NaN"):
        predictor.predict(*ragged(12), batch_tokens=64)
