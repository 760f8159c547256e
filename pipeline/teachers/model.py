"""Loads and checks a teacher's model: any that AutoModelForMaskedLM loads from safetensors."""

import hashlib
import inspect
import json
import logging
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files

from pipeline.config import TeacherConfig
from pipeline.teachers.faults import loading_fault
from pipeline.teachers.tokenizer import TeacherTokenizer
from schemas.errors import UserError
from schemas.loading import lacking, pickled_weights, weights_arguments, wrong_size
from schemas.model_sizes import check_sizes, embedding_rows, longest_sequence
from schemas.secrets import without_secrets

# Names in ELECTRA and DeBERTa-v3 of the head that detects replaced tokens.
_REPLACED_TOKEN_HEADS = ("discriminator_predictions.", "mask_predictions.")
# A head may have more rows than there are tokens, to make its size a round number.
_PADDING_ROWS, _PADDING_SHARE = 128, 0.01


def load_model(name: str, config: TeacherConfig) -> PreTrainedModel:
    """Loads a teacher's weights, from safetensors only, in float32 on the CPU.

    Raises:
      UserError: it cannot be loaded, or some weights would be initialized at random.
    """
    where = f"teacher {name!r} ({without_secrets(config.model)})"
    if config.trust_remote_code:
        # transformers 5 reads what `post_init` sets, but code written for 4 (HPLT's LTG-BERT) may not call it.
        PreTrainedModel.all_tied_weights_keys = getattr(PreTrainedModel, "all_tied_weights_keys", {})
    arguments = {"trust_remote_code": config.trust_remote_code, **weights_arguments(config.revision)}
    try:
        settings = AutoConfig.from_pretrained(
            config.model, revision=arguments["revision"], trust_remote_code=config.trust_remote_code
        )
        check_sizes(f"{where}: its config.json", settings.to_dict())
        model, report = AutoModelForMaskedLM.from_pretrained(
            config.model,
            dtype=torch.float32,
            # Mismatches are refused below, by name.
            ignore_mismatched_sizes=True,
            **arguments,
        )
    except UserError:
        raise
    except Exception as error:  # A library, or the model's own code, may raise anything.
        reason = pickled_weights(config.model) or loading_fault(error, config)
        raise UserError(f"{where}: its model cannot be loaded: {reason}") from None
    if fault := wrong_size(report):
        raise UserError(f"{where}: {fault}")
    if missing := sorted(report["missing_keys"]):
        in_encoder = any(key.startswith(f"{model.base_model_prefix}.") for key in missing)
        mend = "use a complete checkpoint" if in_encoder else "use a checkpoint with a masked-LM head"
        if any(key.startswith(_REPLACED_TOKEN_HEADS) for key in report["unexpected_keys"]):
            mend = (
                "it is a discriminator, trained to detect replaced tokens; use its generator (for ELECTRA a model called "
                "...-generator, for DeBERTa-v3 the generator's files next to the discriminator's)"
            )
        raise UserError(f"{where}: {lacking(missing)}, so its predictions would be random; {mend}")
    return model.eval()


def check_model(
    tokenizer: TeacherTokenizer, model: PreTrainedModel, top_k: int, max_length: int, tail_samples: int = 0
) -> None:
    """Raises UserError (which names both values) if a model does not fit this configuration."""
    where = f"teacher {tokenizer.name!r}"
    rows = embedding_rows(model)
    if tokenizer.size > rows:
        raise UserError(
            f"{where}: its tokenizer emits ids up to {tokenizer.size - 1}, but its embedding has {rows} rows; "
            "tokenizer and model do not belong together"
        )
    if rows - tokenizer.size > max(_PADDING_ROWS, _PADDING_SHARE * rows):
        logging.getLogger(__name__).warning(
            "%s: its tokenizer emits ids only up to %d, but its embedding has %d rows; the other rows count in the "
            "log-probabilities but are never among the top-k. Make sure that tokenizer and model belong together",
            where,
            tokenizer.size - 1,
            rows,
        )
    if top_k > len(tokenizer.tokens):
        raise UserError(
            f"{where}: top_k is {top_k}, but its vocabulary has only {len(tokenizer.tokens)} tokens; lower top_k"
        )
    if tail_samples and top_k == len(tokenizer.tokens):
        raise UserError(
            f"{where}: top_k is {top_k}, the size of its vocabulary, so there is no tail for tail_samples; "
            "lower top_k or set tail_samples to 0"
        )
    limit = min(tokenizer.hf.model_max_length, longest_exact_sequence(model.config))
    if max_length > limit:
        raise UserError(
            f"{where}: max_length is {max_length}, but the teacher reads at most {limit} tokens; lower max_length"
        )


def teacher_fingerprint(tokenizer: TeacherTokenizer, model: PreTrainedModel) -> str:
    """Returns the sha256 of the tokenizer, the model's configuration, all its weights and its own code."""
    config = {key: value for key, value in model.config.to_diff_dict().items() if key not in _INCIDENTAL}
    digest = hashlib.sha256(tokenizer.fingerprint.encode())
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for file in _code(model):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _code(model: PreTrainedModel) -> list[str]:
    """Returns the Python files of a model's own code, by name; none if its class is from transformers."""
    if type(model).__module__.split(".")[0] == "transformers":
        return []
    files = {inspect.getfile(part) for part in (type(model), type(model.config))}
    for file in sorted(files):
        files.update(get_relative_import_files(file))
    return sorted(files, key=lambda file: (Path(file).name, file))


_INCIDENTAL = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "_commit_hash"}


def longest_exact_sequence(config: PreTrainedConfig) -> int:
    """Returns the length in tokens of the longest row whose predictions are exact.

    On a longer row, the attention of these two families would pad it or draw random numbers.
    """
    limits = [longest_sequence(config)]
    if config.model_type == "big_bird" and config.attention_type == "block_sparse":
        limits.append((5 + 2 * config.num_random_blocks) * config.block_size)
    if config.model_type == "reformer":
        limits.append(min(config.local_attn_chunk_length, config.lsh_attn_chunk_length))
    return min(limits)
