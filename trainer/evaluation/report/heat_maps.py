"""Matrices: how labels transfer between languages, and how much vocabularies share."""

import math
from collections.abc import Mapping, Sequence, Set

from schemas.vocabulary import Vocabulary
from trainer.evaluation.report.content import HeatMap, Result, TaskRecord


def transfer(tasks: Sequence[TaskRecord], models: Sequence[str], results: Sequence[Result]) -> list[HeatMap]:
    """Returns each trained task's first metric by training and test language, for each model.

    Models that were trained and tested on only one language have none.
    """
    maps = []
    for task in tasks:
        trained = [r for r in results if r.task == task.key and r.trained_on and r.metric == task.metrics[0].key]
        columns = list(dict.fromkeys(result.language for result in trained))
        known = [result.value for result in trained if math.isfinite(result.value)]
        for model in models:
            values = {(r.trained_on or "", r.language): r.value for r in trained if r.model == model}
            rows = list(dict.fromkeys(row for row, _ in values))
            if len(values) > 1 and known:
                cells = [[values.get((row, column)) for column in columns] for row in rows]
                title = f"{task.title}, {task.metrics[0].title}: {model}"
                maps.append(HeatMap(title, "trained on", "tested on", rows, columns, cells, min(known), max(known)))
    return maps


def overlap(tokens: Mapping[str, Set]) -> HeatMap:
    """Returns the share of each model's tokens, as its tokenizer writes them, that another's has too."""
    return _shares("Tokens as they are written", tokens)


def merged_overlap(model: str, vocabulary: Vocabulary) -> HeatMap:
    """Returns the share of each teacher's tokens that another has too, by the merged ids of a student."""
    tokens = {name: frozenset((ids >= 0).nonzero()[0].tolist()) for name, ids in vocabulary.teacher_ids.items()}
    return _shares(f"Teachers in the merged vocabulary of {model}", tokens)


def _shares(title: str, tokens: Mapping[str, Set]) -> HeatMap:
    names = list(tokens)
    shares: list[list[float | None]] = [
        [len(tokens[row] & tokens[column]) / len(tokens[row]) if tokens[row] else None for column in names]
        for row in names
    ]
    return HeatMap(title, "tokens of", "held by", names, names, shares, 0.0, 1.0)
