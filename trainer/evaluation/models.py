"""The models under evaluation: plain transformers models, each with its tokenizer or tokenizers."""

import hashlib
from collections.abc import Iterable, Set
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import cached_file, extract_commit_hash
from transformers.utils import logging as transformers_logging

from schemas.errors import UserError
from schemas.loading import lacking, loading_error, pickled_weights, weights_arguments, wrong_size
from schemas.model_sizes import check_sizes, longest_sequence
from schemas.secrets import without_secrets
from schemas.tokenizer_files import CONFIG_FILE, TOKENIZER_FILE
from trainer.evaluation.config import ModelConfig

# The folder of an exported student that has the tokenizer of each language.
TOKENIZERS = "tokenizers"


class Model:
    """One model of the configuration. Its weights are loaded on first use.

    Attributes:
      name: in the configuration.
      device: where its weights are loaded.
      teachers: by language, the name of the model that it is compared with.
    """

    def __init__(self, name: str, config: ModelConfig, device: torch.device):
        self.name = name
        self.device = device
        self.teachers = config.teachers
        self._config = config
        self._where = f"models.{name} ({without_secrets(config.model)})"
        self.tokenizer = cache(self._tokenizer)

    @property
    def max_length(self) -> int:
        """The most tokens in a sequence that it can read, special ones included."""
        return min(longest_sequence(self.transformers_config), self.tokenizer(None).model_max_length)

    @cached_property
    def transformers_config(self) -> Any:
        """Its configuration. Raises UserError if it cannot be loaded."""
        config = self._load(AutoConfig, revision=self._revision)
        check_sizes(f"{self._where}: its config.json", config.to_dict())
        return config

    @cached_property
    def masked_lm(self) -> PreTrainedModel:
        """The masked LM in float32, in evaluation mode. Raises UserError if some of its weights would be random, or are NaN."""
        return self._on_device(AutoModelForMaskedLM).eval()

    @property
    def encoder(self) -> PreTrainedModel:
        """The masked LM without its head; it returns hidden states."""
        return cast(PreTrainedModel, self.masked_lm.base_model)

    def with_head(self, auto_class: Any, **settings: Any) -> PreTrainedModel:
        """Returns a new copy with a new random head (of `AutoModelForTokenClassification` or similar), from torch's generator.

        The head is new even if the checkpoint has one. A pooler is new only if it is missing: masked LMs are trained
        without one.

        Raises:
          UserError: it cannot be loaded like this, a part of the encoder would be random too, or has NaN.
        """
        return self._on_device(auto_class, **settings)

    def without_values(self, auto_class: Any, **settings: Any) -> PreTrainedModel:
        """Returns the model with such a head on the device `meta`, where tensors have shapes only.

        Reads only the headers of its weights. Raises the errors of loading the model, except those about values.
        """
        return self._with_weights(auto_class, device_map="meta", **settings)

    def unload(self) -> None:
        """Drops the masked LM to free its memory for the next model."""
        vars(self).pop("masked_lm", None)

    @cached_property
    def tokenizer_languages(self) -> list[str]:
        """The languages that a student has a tokenizer for; empty if it is read with its default one, or has only one."""
        if self._config.tokenizer == "default":
            return []
        patterns = [TOKENIZER_FILE, f"{TOKENIZERS}/*/{TOKENIZER_FILE}"]
        folder = Path(self._config.model)
        if not folder.is_dir():
            try:
                folder = Path(snapshot_download(str(folder), revision=self._revision, allow_patterns=patterns))
            except Exception as error:  # The library may raise anything for a bad hub.
                raise UserError(
                    f"{self._where}: {TOKENIZERS}/ cannot be listed: {loading_error(error, self._config.model)}"
                ) from None
        default, of_languages = (list(folder.glob(pattern)) for pattern in patterns)
        # The default tokenizer of a student of one teacher is that of its language.
        different = {file.read_bytes() for file in of_languages} - {file.read_bytes() for file in default}
        return sorted(file.parent.name for file in of_languages) if different else []

    def read_with_default(self, languages: Iterable[str]) -> list[str]:
        """Returns the languages for which a student with tokenizers of languages has none."""
        known = self.tokenizer_languages
        return [language for language in languages if known and language not in known]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the files of a local folder, or over the hub id and the commit of its branch or tag."""
        digest = hashlib.sha256(self._config.tokenizer.encode())
        folder = Path(self._config.model)
        if not folder.is_dir():
            config = self._file("config.json")
            digest.update(f"{self._config.model} {extract_commit_hash(config, None) or self._revision}".encode())
            return digest.hexdigest()
        files = [*folder.iterdir(), *(folder / TOKENIZERS).rglob("*")]
        for file in sorted(file for file in files if file.suffix in {".json", ".safetensors", ".txt", ".model", ".py"}):
            digest.update(f"{file.relative_to(folder)} {file.stat().st_size}\n".encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def _tokenizer(self, language: str | None) -> PreTrainedTokenizerFast:
        """Returns the tokenizer for a language (None: the default). Raises UserError if there is no fast one."""
        source = self._config.model
        revision: str | None = self._revision
        if language and self._config.tokenizer == "language":
            files = [self._file(f"{TOKENIZERS}/{language}/{name}") for name in (TOKENIZER_FILE, CONFIG_FILE)]
            if files[-1] is not None:
                # Pass a folder: for a subfolder of a hub id, transformers looks for a config.json in it.
                source, revision = str(Path(files[-1]).parent), None
        tokenizer = self._load(AutoTokenizer, source, revision=revision)
        if not tokenizer.is_fast:
            raise UserError(
                f"{self._where}: its tokenizer exists only as Python code, which does not say which characters a token stands "
                "for; give a model with a tokenizer.json"
            )
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        # If the files of the tokenizer are missing, transformers makes one of the special tokens of the model's type.
        if not tokenizer.get_vocab().keys() - special - {*tokenizer.all_special_tokens}:
            raise UserError(
                f"{self._where}: has no tokenizer, or one of special tokens only; copy the tokenizer's files there, such as "
                "tokenizer.json and tokenizer_config.json"
            )
        # Positions count from the left and truncation removes the end, whatever sides were saved with the tokenizer.
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        return tokenizer

    @property
    def _revision(self) -> str:
        return self._config.revision or "main"

    def _file(self, name: str) -> str | None:
        """Returns the local path of a file of the model, downloaded if needed; None if the model has no such file."""
        try:
            return cached_file(
                self._config.model, name, revision=self._revision, _raise_exceptions_for_missing_entries=False
            )
        except Exception as error:  # The libraries may raise anything for a bad folder or hub.
            raise UserError(
                f"{self._where}: {name} cannot be read: {loading_error(error, self._config.model)}"
            ) from None

    def _on_device(self, auto_class: Any, **settings: Any) -> PreTrainedModel:
        model = self._with_weights(auto_class, **settings)
        for key, weight in model.named_parameters():
            if not torch.isfinite(weight).all():
                raise UserError(
                    f"{self._where}: its weight {key} has NaN or infinite values; use an undamaged checkpoint"
                )
        return model.to(self.device)  # type: ignore[arg-type]

    def _with_weights(self, auto_class: Any, **settings: Any) -> PreTrainedModel:
        if fault := pickled_weights(self._config.model):
            raise UserError(f"{self._where}: {fault}")
        is_masked_lm = auto_class is AutoModelForMaskedLM
        before = transformers_logging.get_verbosity()
        # Missing weights either raise an error below or belong to the new head, so transformers' warnings are not needed.
        transformers_logging.set_verbosity_error()
        try:
            model, report = self._load(
                auto_class,
                dtype=torch.float32,
                # A head may be for other labels, and is replaced. Other mismatches are refused below, by name.
                ignore_mismatched_sizes=True,
                **weights_arguments(self._config.revision),
                **settings,
            )
        finally:
            transformers_logging.set_verbosity(before)
        encoder = f"{model.base_model_prefix}."
        if fault := wrong_size(report, "" if is_masked_lm else encoder):
            raise UserError(f"{self._where}: {fault}")
        missing = sorted(report["missing_keys"])
        in_encoder = [key for key in missing if key.startswith(encoder) and ".pooler." not in key]
        if in_encoder:
            raise UserError(
                f"{self._where}: {lacking(in_encoder)}, so a part of its encoder would be random; use a complete checkpoint"
            )
        if missing and is_masked_lm:
            raise UserError(
                f"{self._where}: {lacking(missing)}, so its predictions would be random; use a checkpoint with a masked-LM head"
            )
        if not is_masked_lm:
            _draw_head(model, report["missing_keys"])
        return model

    def _load(self, auto_class: Any, source: str | None = None, **arguments: Any) -> Any:
        try:
            # Random values for missing weights must not advance the generator: they are rejected or drawn again later.
            with torch.random.fork_rng(devices=[]):
                return auto_class.from_pretrained(
                    source or self._config.model, trust_remote_code=self._config.trust_remote_code, **arguments
                )
        except Exception as error:  # The libraries may raise anything for a bad folder or hub.
            raise UserError(f"{self._where}: cannot be loaded: {loading_error(error, self._config.model)}") from None


def _draw_head(model: PreTrainedModel, missing: Set[str]) -> None:
    """Initializes the parameters outside the encoder, and missing ones, as transformers does for a new model."""
    encoder = set(model.base_model.parameters())
    new = {parameter for key, parameter in model.named_parameters() if key in missing or parameter not in encoder}
    part: Any
    for part in (*new, *(module for module in model.modules() if not new.isdisjoint(module.parameters()))):
        # transformers uses this flag to skip loaded weights.
        part._is_hf_initialized = False
    model.initialize_weights()
