"""Fields of a configuration that have different names in transformers 4 and 5."""

from transformers import PreTrainedConfig

# ModernBERT's kinds of layers, and the names in transformers 4 for the base of their rotary embeddings.
_THETA = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}


def add_older_names(config: PreTrainedConfig) -> None:
    """Repeats fields that are renamed in transformers 5 under their names in transformers 4.

    Without them transformers 4 would use its defaults and compute something else. The fields are ModernBERT's rotary
    embeddings and its order of layers; no other masked LM that both versions know has such fields.
    """
    if config.model_type != "modernbert":
        return
    for kind, name in _THETA.items():
        setattr(config, name, config.rope_parameters[kind]["rope_theta"])
    for every in range(1, len(config.layer_types) + 1):
        # transformers 4 cannot describe layers in any other order.
        kinds = ["sliding_attention" if layer % every else "full_attention" for layer in range(len(config.layer_types))]
        if kinds == config.layer_types:
            config.global_attn_every_n_layers = every
            break
