"""Minimal pairs: whether a model finds the grammatical one of two sentences more likely."""

from typing import Any, Self

import numpy as np

from trainer.evaluation.config import EvaluationConfig, ModelConfig
from trainer.evaluation.formats.minimal_pairs import read_minimal_pairs
from trainer.evaluation.models import Model
from trainer.evaluation.pseudo_likelihood import score_texts
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores, Task


class MinimalPairs(Task):
    """The share of pairs whose right sentence has the higher pseudo-likelihood (Warstadt et al. 2020, "BLiMP").

    Whole sentences are scored as in `trainer.evaluation.tasks.likelihood`: within words from left to right, including the
    characters that unknown tokens hide. A tie counts half, so a model that cannot tell sentences apart scores 0.5. A unit is
    a pair.
    """

    key, title = "minimal_pairs", "minimal pairs"
    metrics = (Metric("accuracy", "accuracy"),)
    needs_mask_token = True
    cuts_text = True

    def __init__(self, config: EvaluationConfig):
        super().__init__(config)
        self._pairs = {language: read_minimal_pairs(files) for language, files in config.minimal_pairs.items()}

    @classmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Reads and checks the pairs. UserError names the file and the line."""
        return cls(config) if config.minimal_pairs else None

    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """Returns one job for each language that the model was made for."""
        return [Job(self.key, name, language) for language in self._pairs if model.is_for(language)]

    def test_files(self, language: str) -> list[str]:
        """The files of the language's pairs."""
        return self.config.minimal_pairs[language]

    def content(self, job: Job) -> Any:
        """The language's pairs."""
        return [self._pairs[job.language], self.max_length]

    def run(self, job: Job, model: Model) -> list[Scores]:
        """The accuracy on the job's language."""
        sentences = [sentence for pair in self._pairs[job.language] for sentence in pair]
        bits = score_texts(sentences, model, job.language, self.max_length, self.config.batch_tokens).bits_N
        correct_U = preferences(bits[::2], bits[1::2])
        return [Scores(job.language, {"accuracy": Ratio(correct_U, np.ones_like(correct_U))})]


def preferences(right_U: np.ndarray, wrong_U: np.ndarray) -> np.ndarray:
    """Returns float64 [U]: 1 where the right sentence costs fewer bits, 0 where it costs more, 0.5 for a tie.

    Differences within float32 rounding are ties: a sentence's bits depend slightly on the rest of its batch.
    """
    tie_U = np.isclose(right_U, wrong_U, rtol=2.0**-20, atol=0)
    return np.where(tie_U, 0.5, (right_U < wrong_U).astype(np.float64))
