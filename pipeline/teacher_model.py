"""A teacher's model: whatever AutoModelForMaskedLM loads from safetensors, checked."""

import hashlib
import json

import torch
from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, PreTrainedModel

from pipeline.config import TeacherConfig
from pipeline.teacher_tokenizer import TeacherTokenizer
from schemas.errors import UserError, first_line

_NO_LIMIT = 1_000_000
# A head may have more rows than there are tokens, to make its size a round number.
_PADDING_ROWS, _PADDING_SHARE = 128, 0.01


def load_model(name: str, config: TeacherConfig) -> PreTrainedModel:
    """Loads a teacher's weights, from safetensors only, in float32 on the CPU.

    Raises:
      UserError: it cannot be loaded, or parts of the head would be made up at random.
    """
    where = f"teacher {name!r} ({config.model})"
    try:
        model, report = AutoModelForMaskedLM.from_pretrained(
            config.model,
            # Named, since only then does transformers find the hub's own safetensors
            # conversion of a repository that has none.
            revision=config.revision or "main",
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{where}: its model cannot be loaded: {first_line(error)}") from None
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"{where}: its weights lack {missing[0]} (and {len(missing) - 1} more), so its predictions "
            "would be random; use a checkpoint with a masked-LM head"
        )
    return model.eval()


def check_model(tokenizer: TeacherTokenizer, model: PreTrainedModel, top_k: int, max_length: int) -> None:
    """Refuses a model that cannot serve this configuration (UserError names both values)."""
    where = f"teacher {tokenizer.name!r}"
    rows = model.get_input_embeddings().num_embeddings
    if tokenizer.size > rows:
        raise UserError(
            f"{where}: its tokenizer emits ids up to {tokenizer.size - 1}, but its embedding has {rows} rows; "
            "tokenizer and model do not belong together"
        )
    if rows - tokenizer.size > max(_PADDING_ROWS, _PADDING_SHARE * rows):
        raise UserError(
            f"{where}: its tokenizer emits ids up to {tokenizer.size - 1} only, but its embedding has {rows} rows; "
            "tokenizer and model do not belong together"
        )
    if top_k > len(tokenizer.tokens):
        raise UserError(
            f"{where}: top_k is {top_k}, but its vocabulary has {len(tokenizer.tokens)} tokens; lower top_k"
        )
    limit = min(tokenizer.hf.model_max_length, longest_sequence(model))
    if max_length > limit:
        raise UserError(f"{where}: max_length is {max_length}, but it reads at most {limit} tokens; lower max_length")


def teacher_fingerprint(tokenizer: TeacherTokenizer, model: PreTrainedModel | None) -> str:
    """sha256 over the tokenizer, the model's configuration and its every weight, wherever they came from."""
    if model is None:
        return tokenizer.fingerprint
    config = {key: value for key, value in model.config.to_diff_dict().items() if key not in _INCIDENTAL}
    digest = hashlib.sha256(tokenizer.fingerprint.encode())
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


_INCIDENTAL = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "_commit_hash"}


def longest_sequence(model: PreTrainedModel) -> int:
    """The longest sequence its learned positions allow."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa's family starts counting after the padding index.
            start = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - start
    return getattr(model.config, "max_position_embeddings", None) or _NO_LIMIT
