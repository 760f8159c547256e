"""Fine-tuning."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

from schemas.errors import UserError
from tests.support.labelled import evaluation, load_model, make_learner
from trainer.evaluation.tasks.fine_tuning import fine_tune


@pytest.fixture
def config(tmp_path, teachers):
    model = make_learner(tmp_path / "model", teachers / "en-wordpiece")
    return evaluation(tmp_path, models={"en": {"model": str(model)}})


def tune(config, seed: int = 0, **settings):
    examples = [{"input_ids": [2, 10 + row, 3], "attention_mask": [1] * 3, "labels": [-100, row % 2, -100]}
                for row in range(20)]  # fmt: skip
    model = load_model(config, "en")
    return fine_tune(
        model, AutoModelForTokenClassification, examples,
        DataCollatorForTokenClassification(model.tokenizer("en")), config.fine_tuning.model_copy(update=settings), seed,
        {"num_labels": 2},
    )  # fmt: skip


@pytest.mark.heavy
def test_the_seed_decides_the_weights(config):
    first, again, other = (tune(config, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.heavy
def test_a_training_that_diverges_is_refused(config):
    with pytest.raises(UserError, match=r"models\.en diverged .*; lower fine_tuning\.learning_rate"):
        tune(config, learning_rate=1e30)


def test_a_model_without_a_part_of_its_encoder_is_refused(config, tmp_path):
    """Otherwise that part would be initialized at random with only a warning."""
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    save_file(
        {name: value for name, value in tensors.items() if "attention.self.query" not in name}, file, {"format": "pt"}
    )
    with pytest.raises(
        UserError, match=r"models\.en .*its weights lack bert\.encoder\.layer\.0\.attention\.self\.query\.bias"
    ):
        load_model(config, "en").with_head(AutoModelForTokenClassification, num_labels=2)
