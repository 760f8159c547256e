"""Pseudo-likelihood: how many bits a character of held-out text costs a model."""

import hashlib
import json
from typing import Self

from trainer.evaluation.config import EvaluationConfig, ModelConfig
from trainer.evaluation.formats.text import open_text
from trainer.evaluation.models import Model
from trainer.evaluation.pseudo_likelihood import score_texts
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores, Task


class Likelihood(Task):
    """Bits per character of text, by `trainer.evaluation.pseudo_likelihood`. A unit is a record, however long.

    So that models of different tokenizers compare:
      - The denominator is the text's: its characters in NFC, white space included.
      - Words are the text's too (`trainer.evaluation.words`), and a token never sees the rest of its word.
      - Special tokens around a piece are not scored.
      - An unknown token costs its own bits and 20.1 (`UNKNOWN_BITS`) for each character that it hides.

    What is left is in the figures, shares of all characters: `changed_characters` are those that the tokenizer reads as others
    (it lowers case, drops accents; white space is not counted) and that the model therefore need not predict;
    `unknown_characters` are those that unknown tokens stand for.
    """

    key, title = "likelihood", "pseudo-likelihood"
    metrics = (Metric("bits_per_character", "bits per character", higher_is_better=False),)
    needs_mask_token = True

    def __init__(self, config: EvaluationConfig):
        self._text = {language: open_text(language, text) for language, text in config.text.items()}
        self._max_length, self._batch_tokens = config.max_length, config.batch_tokens
        content = [{language: text.sha256 for language, text in self._text.items()}, self._max_length]
        self.fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Finds and checks the text. UserError where a language has none."""
        return cls(config) if config.text else None

    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """One for each language that the model was made for."""
        languages = [language for language in self._text if model.languages is None or language in model.languages]
        return [Job(self.key, name, language) for language in languages]

    def run(self, job: Job, model: Model) -> list[Scores]:
        """Bits per character of the job's language."""
        scores = score_texts(self._text[job.language], model, job.language, self._max_length, self._batch_tokens)
        ratios = {"bits_per_character": Ratio(scores.bits_N, scores.characters_N.astype(float))}
        characters = int(scores.characters_N.sum())
        figures = {
            "changed_characters": int(scores.changed_N.sum()) / characters,
            "unknown_characters": int(scores.unknown_N.sum()) / characters,
        }
        return [Scores(job.language, ratios, figures)]
