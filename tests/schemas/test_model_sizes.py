"""How many tokens a model can read, compared with the position tables of real models."""

import pytest

from schemas.model_sizes import longest_sequence
from tests.support.architectures import MODEL_TYPES, tiny


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_it_is_what_the_table_of_positions_has_room_for(model_type):
    model = tiny(model_type)
    rooms = [model.config.max_position_embeddings] if hasattr(model.config, "max_position_embeddings") else []
    for name, module in model.named_modules():
        # I-BERT has its own class of embedding.
        if name.endswith("position_embeddings") and hasattr(module, "weight") and hasattr(module, "padding_idx"):
            rooms.append(len(module.weight) - (0 if module.padding_idx is None else module.padding_idx + 1))
    assert longest_sequence(model.config) == min(rooms, default=10**6)


def test_rotary_positions_are_not_counted_from_the_padding():
    config = tiny("esm", position_embedding_type="rotary").config
    assert longest_sequence(config) == config.max_position_embeddings
