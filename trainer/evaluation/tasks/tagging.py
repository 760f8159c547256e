"""Universal parts of speech, by a linear probe of a frozen model and by a fine-tuned model."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from transformers import AutoModelForMaskedLM

from trainer.evaluation.formats.labelled_words import Sentence
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.linear_probe import NothingToFit, fit_probe
from trainer.evaluation.tasks.task import Job, Metric, Ratio
from trainer.evaluation.tasks.token_classification import Labels, WordLabels


class Tagging(WordLabels):
    """The share of words with the right part of speech, by a fine-tuned model."""

    key: ClassVar = "tagging"
    title: ClassVar = "tagging, fine-tuned"
    section: ClassVar = "tagging"
    metrics: ClassVar = (Metric("accuracy", "accuracy"),)

    def ratios(self, sentences: list[Sentence], predictions: list[Labels]) -> dict[str, Ratio]:
        """Words with the right label over words with a label; a unit is a sentence."""
        pairs = [
            [(label, given) for label, given in zip(sentence.labels, predicted, strict=True) if label is not None]
            for sentence, predicted in zip(sentences, predictions, strict=True)
        ]
        right = [sum(label == given for label, given in words) for words in pairs]
        return {"accuracy": Ratio(np.array(right, np.float64), np.array([len(words) for words in pairs], np.float64))}


class TaggingProbe(Tagging):
    """The same share, by a linear classifier over hidden states of the frozen model."""

    key: ClassVar = "tagging_probe"
    title: ClassVar = "tagging, linear probe"
    repeats: ClassVar = False
    auto_class: ClassVar = AutoModelForMaskedLM
    version: ClassVar = 2
    needs_pad_token: ClassVar = False
    needs_hidden_states: ClassVar = True
    used_settings: ClassVar = ("max_length",)

    @property
    def head(self) -> dict[str, Any]:
        """Empty: the model gets no new head."""
        return {}

    def fit(self, job: Job, model: Model) -> Callable[[str, list[Sentence]], list[Labels]]:
        """Fits the probe; returns a function that labels sentences of a language."""
        try:
            return fit_probe(
                model, job.language, self.train[job.language], self.settings.max_length, self.config.batch_tokens
            )
        except NothingToFit:
            raise self.nothing_to_learn(job) from None
