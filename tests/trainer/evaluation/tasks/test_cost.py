"""The costs of models."""

import numpy as np
import pytest
import torch

from tests.support import world
from tests.support.students import make_model
from trainer.evaluation.batches import Batch
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.masked_forward import MaskedForward
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.cost import Cost, operations, sizes
from trainer.evaluation.tasks.task import Job


@pytest.mark.parametrize("tied", [True, False])
def test_sizes_are_those_of_the_layers(tied):
    model = make_model("bert", rows=100, seed=0, tie_word_embeddings=tied)
    # An untied projection has a bias in addition to that of the head.
    rows, biases = 100 * 16, 100 if tied else 200
    layers = sum(p.numel() for p in model.bert.encoder.parameters())
    positions = sum(p.numel() for p in model.bert.embeddings.parameters()) - rows
    transform = sum(p.numel() for p in model.cls.predictions.transform.parameters())
    figures = sizes(model)
    assert figures["encoder_parameters"] == layers + positions
    assert figures["parameters"] == rows * (1 if tied else 2) + layers + positions + transform + biases


@pytest.mark.parametrize("model_type", ["bert", "albert"])
def test_operations_are_those_of_all_layers(model_type):
    # ALBERT's layers share one set of weights, and its rows and layers differ in width.
    model = make_model(model_type, rows=100, seed=0, **({"embedding_size": 8} if model_type == "albert" else {}))
    config = model.config
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    assert layers > 1
    ids_BL = np.random.default_rng(0).integers(5, 100, (3, 12))
    rows_M = np.array([1, 5, 13, 30])
    forward = MaskedForward(model, ids_BL[0], pad_id=1, where="m")
    batch = Batch(ids_BL, np.ones((3, 12), bool), rows_M, np.arange(4))
    tokens, attended = 36, 3 * 12 * 12
    of_layer = tokens * (4 * hidden * hidden + 2 * hidden * inner) + 2 * attended * hidden
    width = 8 if model_type == "albert" else hidden
    projection = tokens * width * hidden if model_type == "albert" else 0
    head = 4 * (hidden * width + width * 100)
    assert operations(forward, [batch, batch]) == 2 * 2 * (layers * of_layer + projection + head)
    forward.close()


def test_speed_and_memory_are_measured(teachers, text, tmp_path, capfd):
    config = EvaluationConfig(
        output=str(tmp_path),
        models={"m": {"model": str(teachers / "en-wordpiece")}},
        text={"en": [str(text / "en.heldout.txt")]},
        max_length=world.MAX_LENGTH,
        batch_tokens=500,
    )
    model = Model("m", config.models["m"], torch.device("cpu"))
    (scores,) = Cost.from_config(config).run(Job("cost", "m", "en"), model)
    assert scores.figures["tokens_per_second"] > 0
    weights = 4 * scores.figures["parameters"]
    # In addition to the weights, at least the hidden states of about 500 tokens, float32 [500, 32] in the widest layer.
    assert weights + 400 * 32 * 4 < 2**20 * scores.figures["peak_memory_mib"] < weights + 2**22
    assert "USDT" not in "".join(capfd.readouterr())
    assert not model.masked_lm.base_model._forward_hooks
