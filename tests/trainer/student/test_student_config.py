"""The student's configuration: the special ids of every family are merged ids."""

import json

import numpy as np
import pytest
import torch
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoConfig, AutoModelForMaskedLM, GenerationConfig

from schemas.vocabulary import Vocabulary
from trainer.config import StudentConfig
from trainer.student.model import config_from_json, config_to_json, student_config

CONFIGS = {config.model_type: config for config in MODEL_FOR_MASKED_LM_MAPPING}
# Merged ids that no family has by default; no unknown token.
SPECIAL = {"mask": 3, "end": 5, "pad": 6, "start": 8}
BY_NAME = {"pad": 6, "bos": 8, "cls": 8, "eos": 5, "sep": 5, "mask": 3}


def make_vocabulary() -> Vocabulary:
    roles = {number: role for role, number in SPECIAL.items()}
    tokens = [f"<{roles[number]}>" if number in roles else f"▁{number}" for number in range(9)]
    return Vocabulary(tokens, [roles.get(n, "word") for n in range(9)], {"t": np.arange(9, dtype=np.int32)})


def fields(config: dict, prefix: str = "") -> dict[str, object]:
    """All fields, by dotted name."""
    actual = {}
    for name, value in config.items():
        actual |= fields(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return actual


def ids_of(config: dict) -> dict[str, object]:
    """The fields that hold a token's id."""
    indices = ("pad_index", "unk_index", "mask_index", "bos_index", "eos_index")
    return {name: value for name, value in fields(config).items() if name.endswith(("_token_id", *indices))}


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_special_id_is_a_merged_one(model_type, tmp_path):
    """This includes students with the architecture of a model that has its own ids."""
    published = CONFIGS[model_type]().to_dict()
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    for settings in ({"settings": {"model_type": model_type}}, {"architecture_from": str(tmp_path)}):
        actual = student_config(StudentConfig(**settings), make_vocabulary(), 8).to_dict()
        ids = ids_of(actual)
        assert set(ids_of(published)) <= set(ids)
        for name, value in ids.items():
            role = name.rpartition(".")[2].removesuffix("_token_id").removesuffix("_index")
            if role in BY_NAME:
                assert value == BY_NAME[role], name
            else:
                # BART's decoder start; the placeholder of an image; XLM's unknown token, which must not be None.
                assert value is None or value in SPECIAL.values(), name
        assert {value for name, value in fields(actual).items() if name.rpartition(".")[2] == "vocab_size"} == {9}


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_configuration_is_made_again_from_a_checkpoint(model_type):
    """This includes an attention that the settings chose."""
    for chosen in ({}, {"attn_implementation": "eager"}):
        settings = {"model_type": model_type} | chosen
        config = student_config(StudentConfig(settings=settings), make_vocabulary(), 8)
        again = config_from_json(json.loads(json.dumps(config_to_json(config))))
        assert type(again) is type(config) and again.to_dict() == config.to_dict()
        assert again._attn_implementation == config._attn_implementation == chosen.get("attn_implementation")


def test_families_that_have_more_special_ids_than_three():
    """The test above therefore covers them."""
    more = {name: len(ids_of(config().to_dict())) for name, config in CONFIGS.items()}
    assert more["modernbert"] == 5 and more["modernvbert"] == 6 and more["xlm"] >= 6 and more["bart"] == 5


@pytest.mark.parametrize("model_type", ["bart", "mbart", "mvp", "xlm", "flaubert"])
def test_what_would_generate_does_it_with_merged_ids(model_type):
    config = student_config(StudentConfig(settings={"model_type": model_type}), make_vocabulary(), 8)
    with torch.device("meta"):
        generation = AutoModelForMaskedLM.from_config(config).generation_config
    changed = ids_of(generation.to_dict()).items() - ids_of(GenerationConfig().to_dict()).items()
    assert {value for _, value in changed} <= {*SPECIAL.values(), None} and changed
