"""Matrices: from which language to which labels transfer, and how much vocabularies share."""

from collections.abc import Mapping, Sequence, Set

from schemas.vocabulary import Vocabulary
from trainer.evaluation.report.content import HeatMap, Result, TaskRecord


def transfer(tasks: list[TaskRecord], results: list[Result]) -> list[HeatMap]:
    """For each task that trains, and each model: its first metric by the language of training and that of the test.

    Models that were trained and tested on one language alone have none.
    """
    maps = []
    for task in tasks:
        metric = task.metrics[0].key if task.metrics else None
        trained = [r for r in results if (r.task, r.metric) == (task.key, metric) and r.trained_on]
        columns = list(dict.fromkeys(result.language for result in trained))
        for model in dict.fromkeys(result.model for result in trained):
            values = {(r.trained_on or "", r.language): r.value for r in trained if r.model == model}
            rows = list(dict.fromkeys(row for row, _ in values))
            if len(values) > 1:
                cells = [[values.get((row, column)) for column in columns] for row in rows]
                title = f"{task.title}, {task.metrics[0].title}: {model}"
                maps.append(HeatMap(title, "trained on", "tested on", rows, columns, cells))
    return maps


def overlap(tokens: Mapping[str, Set[str]]) -> HeatMap:
    """The share of each model's tokens, as its tokenizer writes them, that another's has too."""
    title = "Tokens as they are written"
    return HeatMap(title, "tokens of", "held by", *_shares(tokens))


def merged_overlap(model: str, vocabulary: Vocabulary) -> HeatMap:
    """The share of each teacher's tokens that another has too, by the merged ids of a student."""
    tokens = {name: frozenset((ids >= 0).nonzero()[0].tolist()) for name, ids in vocabulary.teacher_ids.items()}
    title = f"Teachers in the merged vocabulary of {model}"
    return HeatMap(title, "tokens of", "held by", *_shares(tokens))


def _shares(tokens: Mapping[str, Set]) -> tuple[list[str], list[str], list[list[float | None]]]:
    names: Sequence[str] = list(tokens)
    shares: list[list[float | None]] = [
        [len(tokens[row] & tokens[column]) / len(tokens[row]) if tokens[row] else None for column in names]
        for row in names
    ]
    return list(names), list(names), shares
