"""Small models with random weights, and their merged vocabularies."""

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from schemas.vocabulary import Vocabulary

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def make_model(model_type: str, rows: int, seed: int, **settings) -> PreTrainedModel:
    """Returns a model in which every weight is random, including biases and norms."""
    torch.manual_seed(seed)
    shape = SHAPE | {"max_position_embeddings": 40, "pad_token_id": 1} | settings
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, vocab_size=rows, **shape))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


def make_vocabulary(owners: dict[str, list[int]], size: int) -> Vocabulary:
    """Returns a vocabulary of `size` tokens; each teacher has the listed ones, by its own ids in its own order."""
    teacher_ids = {}
    for number, (name, tokens) in enumerate(owners.items()):
        teacher_ids[name] = np.full(size, -1, np.int32)
        teacher_ids[name][tokens] = np.random.default_rng(number).permutation(len(tokens))
    return Vocabulary([f"▁{i}" for i in range(size)], ["pad"] + ["word"] * (size - 1), teacher_ids)


def tables(model: PreTrainedModel) -> list[torch.Tensor]:
    """Returns copies of the tensors that have a row per token."""
    projection = model.get_output_embeddings()
    return [x.detach().clone() for x in (model.get_input_embeddings().weight, projection.weight, projection.bias)]
