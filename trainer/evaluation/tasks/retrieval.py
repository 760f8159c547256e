"""Finding translations: the share of sentences whose nearest neighbour in the other language is their translation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from schemas.errors import UserError
from schemas.secrets import without_secrets
from trainer.evaluation.config import EvaluationConfig, ModelConfig
from trainer.evaluation.formats.parallel import read_parallel
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.forward import encode, forward_by_length, rows_of
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores, Task

# Without separate validation files, every fifth pair is held out to choose the layer.
_HELD_OUT = 5


@dataclass(frozen=True)
class _Pairs:
    """Pairs of translations: those to score, and those to choose the layer on."""

    languages: tuple[str, str]
    scored: list[tuple[str, str]]
    validation: list[tuple[str, str]]


class Retrieval(Task):
    """Accuracy of nearest neighbours by the cosine of hidden states, averaged over a sentence's tokens.

    The average excludes special tokens. Every model is scored on all pairs, whatever languages it was made for.
    """

    key: ClassVar = "retrieval"
    title: ClassVar = "retrieval"
    hub_task: ClassVar = "sentence-similarity"
    metrics: ClassVar = (Metric("accuracy", "accuracy"),)

    def __init__(self, config: EvaluationConfig, pairs: Mapping[str, _Pairs]):
        super().__init__(config)
        self._pairs = pairs

    @classmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Reads the parallel files."""
        pairs = {}
        for name, given in config.retrieval.items():
            all_pairs = read_parallel(given.files)
            if len(all_pairs) < _HELD_OUT:
                raise UserError(
                    f"{without_secrets(given.files[0])}: has {len(all_pairs)} sentences; {_HELD_OUT} are needed at least"
                )
            if given.validation:
                pairs[name] = _Pairs(given.languages, all_pairs, read_parallel(given.validation))
            else:
                scored = [pair for number, pair in enumerate(all_pairs) if number % _HELD_OUT]
                pairs[name] = _Pairs(given.languages, scored, all_pairs[::_HELD_OUT])
        return cls(config, pairs) if pairs else None

    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """Returns one job for each pair of files."""
        return [Job(self.key, name, pair) for pair in self._pairs]

    def languages(self, job: Job) -> tuple[str, str]:
        """The languages of the pair."""
        return self._pairs[job.language].languages

    def test_files(self, language: str) -> tuple[str, str]:
        """The two files of a pair; the direction does not matter."""
        return self.config.retrieval[language.partition(": ")[0]].files

    def content(self, job: Job) -> Any:
        """The sentences of the pair."""
        pairs = self._pairs[job.language]
        return [self.max_length, pairs.languages, pairs.scored, pairs.validation]

    def run(self, job: Job, model: Model) -> list[Scores]:
        """Scores both directions; a unit is a sentence. Uses the layer with the most correct neighbours on other pairs, both ways."""
        pairs = self._pairs[job.language]
        right_LU = [
            np.concatenate(neighbours) for neighbours in self._neighbours(model, pairs.languages, pairs.validation)
        ]
        layer = int(np.argmax([right_U.sum() for right_U in right_LU]))
        forth_U, back_U = self._neighbours(model, pairs.languages, pairs.scored)[layer]
        source, target = pairs.languages
        ways = [f"{source}→{target}", f"{target}→{source}{' back' * (source == target)}"]
        return [
            # Includes the name of the pair, since several pairs may have the same languages.
            Scores(f"{job.language}: {way}", {"accuracy": Ratio(right_U, np.ones(len(right_U)))}, {"layer": layer})
            for way, right_U in zip(ways, (forth_U, back_U), strict=True)
        ]

    def _neighbours(
        self, model: Model, languages: tuple[str, str], pairs: list[tuple[str, str]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns for each layer whether each sentence's nearest neighbour is its translation: float64 [U] in each direction."""
        source, target = (
            self._means(model, language, list(sentences))
            for language, sentences in zip(languages, zip(*pairs, strict=True), strict=True)
        )
        result = []
        for source_UH, target_UH in zip(source, target, strict=True):
            cosines_UU = source_UH @ target_UH.T
            numbers = np.arange(len(pairs))
            result.append(
                (
                    (cosines_UU.argmax(1).numpy() == numbers).astype(np.float64),
                    (cosines_UU.argmax(0).numpy() == numbers).astype(np.float64),
                )
            )
        return result

    def _means(self, model: Model, language: str, sentences: list[str]) -> list[torch.Tensor]:
        """Returns for each layer (0: the embeddings) the mean over a sentence's tokens, as unit vectors float32 [U, H]."""
        tokenizer = model.tokenizer(language)
        limit = min(self.max_length, model.max_length)
        encoded = encode(model, tokenizer, sentences, max_length=limit, return_special_tokens_mask=True)
        layers: list[torch.Tensor] = []
        for rows, output in forward_by_length(
            model.encoder, tokenizer, rows_of(encoded), self.config.batch_tokens, output_hidden_states=True
        ):
            if not layers:
                hidden_size = output.hidden_states[0].shape[-1]
                layers = [torch.zeros(len(sentences), hidden_size) for _ in output.hidden_states]
            weights_BL = torch.zeros(output.hidden_states[0].shape[:2], device=model.device)
            for number, row in enumerate(rows):
                special = torch.tensor(encoded["special_tokens_mask"][row])
                weights_BL[number, : len(special)] = (1 - special).float()
            for layer, hidden_BLH in zip(layers, output.hidden_states, strict=True):
                sums_BH = torch.einsum("bl,blh->bh", weights_BL, hidden_BLH.float())
                layer[rows] = torch.nn.functional.normalize(sums_BH, dim=-1).cpu()
        return layers
