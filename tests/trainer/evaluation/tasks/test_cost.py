"""What models cost."""

import pytest
import torch

from tests.support import world
from tests.support.students import make_model
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.cost import Cost, sizes
from trainer.evaluation.tasks.task import Job


@pytest.mark.parametrize("tied", [True, False])
def test_sizes_are_those_of_the_layers(tied):
    model = make_model("bert", rows=100, seed=0, tie_word_embeddings=tied)
    # Untied, the projection has a bias beside that of the head.
    rows, biases = 100 * 16, 100 if tied else 200
    layers = sum(p.numel() for p in model.bert.encoder.parameters())
    positions = sum(p.numel() for p in model.bert.embeddings.parameters()) - rows
    transform = sum(p.numel() for p in model.cls.predictions.transform.parameters())
    figures = sizes(model)
    assert figures["encoder_parameters"] == layers + positions
    assert figures["parameters"] == rows * (1 if tied else 2) + layers + positions + transform + biases
    # Each masked token meets the rows once, to give logits.
    assert figures["operations_per_token"] == 2 * (layers + positions) + 0.3 * (transform + rows + biases)


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
    # Beside the weights at least the hidden states of about 500 tokens, float32 [500, 32] in the widest layer.
    assert weights + 400 * 32 * 4 < 2**20 * scores.figures["peak_memory_mib"] < weights + 2**22
    assert "USDT" not in "".join(capfd.readouterr())
    assert not model.masked_lm.base_model._forward_hooks
