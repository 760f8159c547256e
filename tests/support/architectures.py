"""Every architecture in transformers' masked-LM mapping: real classes, small shapes, random weights."""

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

MODEL_TYPES = list(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
VOCABULARY, LONGEST = 100, 64

# Applied to every part of a configuration that has these fields.
_SMALL = {
    **dict.fromkeys(
        ["hidden_size", "embedding_size", "d_model", "emb_dim", "dim", "input_embedding_size", "output_embedding_size",
         "d_latents", "true_hidden_size", "intra_bottleneck_size", "embedding_rank", "prediction_head_size",
         "pooler_hidden_size", "embedding_dim", "entity_emb_size", "pronunciation_embed_dim", "shape_embed_dim"], 16
    ),
    **dict.fromkeys(
        ["num_hidden_layers", "n_layers", "encoder_layers", "decoder_layers", "num_self_attends_per_block",
         "num_decoder_layers"], 2
    ),
    **dict.fromkeys(
        ["num_attention_heads", "num_key_value_heads", "n_heads", "n_head", "encoder_attention_heads",
         "decoder_attention_heads", "num_self_attention_heads", "num_cross_attention_heads", "q_groups", "k_groups",
         "v_groups", "intermediate_groups", "output_groups"], 2
    ),
    **dict.fromkeys(["head_dim", "d_head", "attention_head_size"], 8),
    **dict.fromkeys(
        ["intermediate_size", "hidden_dim", "d_inner", "encoder_ffn_dim", "decoder_ffn_dim", "feed_forward_size"], 32
    ),
    **dict.fromkeys(["vocab_size", "pronunciation_vocab_size", "shape_vocab_size", "entity_vocab_size"], VOCABULARY),
    **dict.fromkeys(
        ["pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "decoder_start_token_id",
         "forced_eos_token_id"], 1
    ),
    **dict.fromkeys(["mask_token_id", "mask_index", "image_token_id", "document_token_id"], 4),
    **dict.fromkeys(["attention_window", "sliding_window", "local_attention", "num_latents", "num_landmarks"], 8),
    "max_position_embeddings": LONGEST + 2,
    # Large enough for predictions to differ from token to token.
    **dict.fromkeys(["initializer_range", "init_std", "embed_init_std"], 0.5),
}  # fmt: skip
# Settings that some types need besides small sizes.
_SPECIAL = {
    "funnel": {"block_sizes": [1, 1], "block_repeats": [1, 1], "initializer_std": 0.5},
    "reformer": {
        "attn_layers": ["local", "lsh"], "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [8, 8],
        "max_position_embeddings": 64, "is_decoder": False, "axial_norm_std": 0.5, "num_buckets": 4,
    },
    "big_bird": {"block_size": 8, "num_random_blocks": 1},
    "nystromformer": {"segment_means_seq_len": 8, "conv_kernel_size": 5},
    "tapas": {"type_vocab_sizes": [3, 4, 4, 2, 4, 4, 4]},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "esm": {"token_dropout": True},
    "neomme": {
        "rope_parameters": {
            name: {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": share}
            for name, share in (("sliding_attention", 1.0), ("full_attention", 0.5))
        },
        "layer_types": ["sliding_attention", "full_attention"], "per_layer_config": {},
    },
}  # fmt: skip


@torch.no_grad()
def tiny(model_type: str, **settings) -> PreTrainedModel:
    """Returns a random model of that type, the same on every call: 100 tokens, with padding id 1 and mask id 4."""
    settings = _shrunk(AutoConfig.for_model(model_type).to_dict()) | _SPECIAL.get(model_type, {}) | settings
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()
    # As in trained checkpoints, no weight stays zero: padding has an embedding like any token.
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            torch.nn.init.normal_(module.weight[module.padding_idx], std=0.5)
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.5)
    return model


def _shrunk(settings: dict) -> dict:
    small = {name: _SMALL[name] for name in settings if name in _SMALL}
    small |= {name: _shrunk(part) for name, part in settings.items() if name in ("text_config", "vision_config")}
    return small
