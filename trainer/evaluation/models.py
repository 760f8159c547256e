"""The models under evaluation: plain transformers, each with its tokenizer or tokenizers."""

import hashlib
from collections.abc import Set
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import cached_file, extract_commit_hash
from transformers.utils import logging as transformers_logging

from schemas.errors import UserError, first_line
from schemas.loading import weights_arguments
from schemas.model_sizes import check_sizes, longest_sequence
from schemas.secrets import without_secrets
from schemas.tokenizer_files import CONFIG_FILE, TOKENIZER_FILE
from trainer.evaluation.config import ModelConfig

# Where an exported student has the tokenizer of each language.
TOKENIZERS = "tokenizers"


class Model:
    """One model of the configuration. Its weights are loaded when they are first asked for.

    Attributes:
      name: in the configuration.
      device: where its weights go.
    """

    def __init__(self, name: str, config: ModelConfig, device: torch.device):
        self.name = name
        self.device = device
        self._config = config
        self._where = f"models.{name} ({without_secrets(config.model)})"
        self.tokenizer = cache(self._tokenizer)

    @property
    def max_length(self) -> int:
        """The tokens of the longest sequence that it reads, special ones included."""
        return min(longest_sequence(self.transformers_config), self.tokenizer(None).model_max_length)

    @cached_property
    def transformers_config(self) -> Any:
        """Its configuration. UserError where it cannot be loaded."""
        config = self._load(AutoConfig, revision=self._revision)
        check_sizes(f"{self._where}: its config.json", config.to_dict())
        return config

    @cached_property
    def masked_lm(self) -> PreTrainedModel:
        """The masked LM in float32, in evaluation mode. UserError where a part of it would be made up at random."""
        return self._with_weights(AutoModelForMaskedLM).to(self.device).eval()  # type: ignore[arg-type]

    @property
    def encoder(self) -> PreTrainedModel:
        """The masked LM without its head, which gives hidden states."""
        return cast(PreTrainedModel, self.masked_lm.base_model)

    def with_head(self, auto_class: Any, **settings: Any) -> PreTrainedModel:
        """A new copy of it with a new head (of `AutoModelForTokenClassification` and its like), drawn by torch's generator.

        The head is new whatever the checkpoint has. So is a pooler that it lacks: masked LMs are trained without one.

        Raises:
          UserError: it cannot be loaded so, or a part of the encoder would be drawn too.
        """
        return self._with_weights(auto_class, **settings).to(self.device)  # type: ignore[arg-type]

    def check_weights(self, auto_class: Any, **settings: Any) -> None:
        """Raises what loading the model with such a head would raise, but reads no more than the headers of its weights."""
        self._with_weights(auto_class, device_map="meta", **settings)

    def unload(self) -> None:
        """Gives up the masked LM, so that the next model has its memory."""
        vars(self).pop("masked_lm", None)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the files of a local folder, or over the hub id and the commit that its branch or tag stands for."""
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
        """The tokenizer that reads a language (None: the model's first). UserError where there is none that is fast."""
        source = self._config.model
        revision: str | None = self._revision
        if language and self._config.tokenizer == "language":
            files = [self._file(f"{TOKENIZERS}/{language}/{name}") for name in (TOKENIZER_FILE, CONFIG_FILE)]
            if files[-1] is not None:
                # As a folder: with a subfolder of a hub id, transformers looks for a config.json there.
                source, revision = str(Path(files[-1]).parent), None
        tokenizer = self._load(AutoTokenizer, source, revision=revision)
        if not tokenizer.is_fast:
            raise UserError(
                f"{self._where}: its tokenizer runs in Python alone, and does not say which characters a token stands for; "
                "give a model with a tokenizer.json"
            )
        # Positions count from the left, and what is cut off is the end, whatever a tokenizer was last used for.
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        return tokenizer

    @property
    def _revision(self) -> str:
        return self._config.revision or "main"

    def _file(self, name: str) -> str | None:
        """Where a file of the model is on this machine, after it was fetched if need be; None if the model has none."""
        try:
            return cached_file(
                self._config.model, name, revision=self._revision, _raise_exceptions_for_missing_entries=False
            )
        except Exception as error:  # Whatever a library makes of a folder or a hub.
            raise UserError(f"{self._where}: {name} cannot be read: {first_line(error)}") from None

    def _with_weights(self, auto_class: Any, **settings: Any) -> PreTrainedModel:
        is_masked_lm = auto_class is AutoModelForMaskedLM
        before = transformers_logging.get_verbosity()
        # What is missing is said here, or is a new head, which is wanted.
        transformers_logging.set_verbosity_error()
        try:
            model, report = self._load(
                auto_class,
                dtype=torch.float32,
                # A head that the checkpoint has may be for other labels. It is drawn anew anyway.
                ignore_mismatched_sizes=not is_masked_lm,
                **weights_arguments(self._config.revision),
                **settings,
            )
        finally:
            transformers_logging.set_verbosity(before)
        sizes = {key: f" of the size {tuple(size)}" for key, _, size in report["mismatched_keys"]}
        missing = sorted(report["missing_keys"] | sizes.keys())
        if not is_masked_lm:
            missing = [
                key for key in missing if key.startswith(f"{model.base_model_prefix}.") and ".pooler." not in key
            ]
        if missing:
            mend = (
                "so its predictions would be random; use a checkpoint with a masked-LM head"
                if is_masked_lm
                else "so a part of its encoder would be random; use a complete checkpoint"
            )
            raise UserError(
                f"{self._where}: its weights lack {missing[0]}{sizes.get(missing[0], '')} (and {len(missing) - 1} more), {mend}"
            )
        if not is_masked_lm:
            _draw_head(model, report["missing_keys"])
        return model

    def _load(self, auto_class: Any, source: str | None = None, **arguments: Any) -> Any:
        try:
            # What it draws for parts that are missing is refused, or drawn anew.
            with torch.random.fork_rng(devices=[]):
                return auto_class.from_pretrained(
                    source or self._config.model, trust_remote_code=self._config.trust_remote_code, **arguments
                )
        except Exception as error:  # Whatever a library makes of a folder or a hub.
            raise UserError(f"{self._where}: cannot be loaded: {first_line(error)}") from None


def _draw_head(model: PreTrainedModel, missing: Set[str]) -> None:
    """Draws the parameters outside the encoder, and those that were missing, as transformers draws them for a new model."""
    encoder = set(model.base_model.parameters())
    new = {parameter for key, parameter in model.named_parameters() if key in missing or parameter not in encoder}
    part: Any
    for part in (*new, *(module for module in model.modules() if not new.isdisjoint(module.parameters()))):
        # By this mark transformers knows what was loaded.
        part._is_hf_initialized = False
    model.initialize_weights()
