"""What transformers 4 reads under other names than transformers 5 writes."""

from transformers import PreTrainedConfig

# ModernBERT's kinds of layers, and what transformers 4 calls the base of their rotary embeddings.
_THETA = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}


def add_older_names(config: PreTrainedConfig) -> None:
    """Adds what a configuration says by names new in transformers 5 once more, by those of transformers 4.

    Without them it would take its defaults, and compute something else. These are ModernBERT's rotary
    embeddings and its order of layers; no other masked LM that both know has such fields.
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
