"""A teacher whose model is Python code in its folder, similar to LTG-BERT's code (HPLT has such a BERT for each language)."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.support import world

CONFIGURATION = """
from transformers.configuration_utils import PretrainedConfig


class NordConfig(PretrainedConfig):
    def __init__(self, vocab_size=100, hidden_size=16, num_hidden_layers=2, max_position_embeddings=64, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.max_position_embeddings = max_position_embeddings
"""
MODELING = """
import torch
from torch import nn
from transformers.modeling_outputs import MaskedLMOutput
from transformers.modeling_utils import PreTrainedModel

from .configuration_nord import NordConfig


class Layer(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)
        self.sum = None

    def forward(self, x, hidden):
        # Length first, and kept in the module: two threads would mix their rows.
        self.sum = torch.zeros(2, *x.shape, dtype=x.dtype, device=x.device)
        self.sum[0] = x
        query, key, value = self.qkv(x).transpose(0, 1).chunk(3, dim=-1)
        scores = query @ key.transpose(1, 2)
        scores.masked_fill_(hidden, float("-inf"))
        self.sum[1] = self.out((scores.softmax(-1) @ value).transpose(0, 1))
        return self.sum.sum(0).tanh()


class Embedding(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Parameter(torch.empty(config.max_position_embeddings, 1, config.hidden_size))

    def forward(self, ids):
        return self.word_embedding(ids) + self.positions[: len(ids)]


class NordPreTrainedModel(PreTrainedModel):
    config_class = NordConfig

    def _init_weights(self, module):
        pass


class NordModel(NordPreTrainedModel):
    def __init__(self, config, add_mlm_layer=False, **kwargs):
        super().__init__(config, **kwargs)
        self.embedding = Embedding(config)
        self.transformer = nn.ModuleList([Layer(config.hidden_size) for _ in range(config.num_hidden_layers)])
        self.classifier = nn.Linear(config.hidden_size, config.vocab_size) if add_mlm_layer else None


class NordForMaskedLM(NordModel):
    def __init__(self, config, **kwargs):
        super().__init__(config, add_mlm_layer=True, **kwargs)

    def forward(self, input_ids=None, attention_mask=None, return_dict=None, **kwargs):
        return_dict = return_dict if return_dict is not None else self.config.use_return_dict
        if attention_mask is None:
            hidden = torch.zeros_like(input_ids, dtype=torch.bool)
        else:
            hidden = ~attention_mask.bool()
        x = self.embedding(input_ids.t())
        for layer in self.transformer:
            x = layer(x, hidden.unsqueeze(1))
        logits = self.classifier(x.transpose(0, 1))
        return MaskedLMOutput(logits=logits) if return_dict else (logits,)
"""


def write_teacher(folder: Path, seed: int = 0) -> None:
    """Writes its code, weights and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = world.make_tokenizer("wordpiece", world.sentences("en", 300))
    tokenizer.save_pretrained(folder)
    (folder / "configuration_nord.py").write_text(CONFIGURATION)
    (folder / "modeling_nord.py").write_text(MODELING)
    config = {
        "architectures": ["NordForMaskedLM"],
        "auto_map": {
            "AutoConfig": "configuration_nord.NordConfig",
            "AutoModel": "modeling_nord.NordModel",
            "AutoModelForMaskedLM": "modeling_nord.NordForMaskedLM",
        },
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "max_position_embeddings": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"embedding.word_embedding.weight": (len(tokenizer), 16), "embedding.positions": (64, 1, 16)}
    for layer in ("transformer.0", "transformer.1"):
        shapes |= {f"{layer}.qkv.weight": (48, 16), f"{layer}.qkv.bias": (48,)}
        shapes |= {f"{layer}.out.weight": (16, 16), f"{layer}.out.bias": (16,)}
    shapes |= {"classifier.weight": (len(tokenizer), 16), "classifier.bias": (len(tokenizer),)}
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(shape, generator=generator) * 0.7 for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
