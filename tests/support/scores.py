"""Evaluations as the trainer makes them."""

from trainer.artifacts.scores import LanguageScores


def scores(nll: float) -> LanguageScores:
    """Those of one language, by their negative log-likelihood."""
    return LanguageScores(positions=1, accuracy=0.0, nll=nll, teacher_accuracy=None, teacher_nll=None, kl=None)
