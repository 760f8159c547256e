"""Scores on held-out masked tokens: the record that evaluations return and files store."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class LanguageScores:
    """The figures of one language.

    Attributes:
      positions: the number of masked positions that the means are over.
      accuracy, nll: of the student, over the merged vocabulary; nll is the negative log-likelihood in nats.
      teacher_accuracy, teacher_nll: of the teacher, over its vocabulary; None if no teacher ran.
      kl: from the teacher to the student (`trainer.loss.sparse.Losses`); None if no teacher ran.
    """

    positions: int
    accuracy: float
    nll: float
    teacher_accuracy: float | None
    teacher_nll: float | None
    kl: float | None


def scores_to_json(scores: Mapping[str, LanguageScores]) -> dict[str, dict]:
    """The scores by language, as JSON values."""
    return {language: asdict(figures) for language, figures in scores.items()}


def scores_from_json(scores: Mapping[str, dict]) -> dict[str, LanguageScores]:
    """Undoes `scores_to_json`. Raises TypeError for other figures."""
    return {language: LanguageScores(**figures) for language, figures in scores.items()}
