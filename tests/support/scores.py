"""Scores like those of the trainer's evaluations."""

from trainer.artifacts.scores import LanguageScores


def scores(nll: float) -> LanguageScores:
    """Returns the scores of one language with this negative log-likelihood."""
    return LanguageScores(positions=1, accuracy=0.0, nll=nll, teacher_accuracy=None, teacher_nll=None, kl=None)
