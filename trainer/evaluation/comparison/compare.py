"""Ranks the candidates of each language from an evaluation."""

from collections.abc import Mapping

from trainer.evaluation.comparison.ranking import Measured, Ranking, rank
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.run import Evaluation
from trainer.evaluation.tasks.task import Job

# The (task, metric) behind each figure.
_RATIOS = {
    "bits_per_character": ("likelihood", "bits_per_character"),
    "minimal_pairs": ("minimal_pairs", "accuracy"),
    "tokens_per_word": ("tokenization", "tokens_per_word"),
    "whole_words": ("tokenization", "whole_words"),
    "unknown_rate": ("tokenization", "unknown_rate"),
    "tail_mass": ("masked", "tail_mass"),
}


def compare(evaluation: Evaluation, corpus_bytes: Mapping[str, int]) -> list[Ranking]:
    """Ranks the candidates of `comparison` for each language of `text`.

    A model whose `models.<name>.languages` excludes a language is no candidate for it.

    Args:
      corpus_bytes: by language, about how many bytes of text the teacher will read, if known.
    """
    config = evaluation.config
    rankings = []
    for language in config.text:
        measured = [
            _measured(evaluation, name, language, corpus_bytes.get(language))
            for name in candidates_of(config, language)
        ]
        rankings.append(rank(language, measured, config.bootstrap_samples))
    return rankings


def candidates_of(config: EvaluationConfig, language: str) -> list[str]:
    """The candidates for one language, in the configuration's order."""
    return [name for name in config.candidates if config.models[name].is_for(language)]


def _measured(evaluation: Evaluation, name: str, language: str, corpus_bytes: int | None) -> Measured:
    jobs = {task: Job(task, name, language) for task in evaluation.tasks}
    scores = {task: evaluation.scores[job][0] for task, job in jobs.items() if job in evaluation.scores}
    ratios = {key: scores[task].ratios[metric] for key, (task, metric) in _RATIOS.items() if task in scores}
    cost, bytes_per_token = scores["cost"].figures, scores["tokenization"].figures["bytes_per_token"]
    figures = {"changed_characters": scores["likelihood"].figures["changed_characters"]}
    # Not measured if all tokens are unknown: then there is nothing to predict.
    if rate := cost.get("tokens_per_second"):
        figures["tokens_per_second"] = rate
        figures["operations_per_byte"] = cost["operations_per_token"] / bytes_per_token
        if corpus_bytes is not None:
            figures["hours"] = corpus_bytes / bytes_per_token / rate / 3600
    return Measured(name, ratios, figures)
