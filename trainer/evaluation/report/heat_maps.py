"""Matrices: how labels transfer between languages, and how much vocabularies share."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from schemas.vocabulary import Vocabulary
from trainer.evaluation.report.content import HeatMap, Result, TaskRecord


def transfer(tasks: Sequence[TaskRecord], models: Sequence[str], results: Sequence[Result]) -> list[HeatMap]:
    """Returns each trained task's first metric: rows are models and the languages they are trained on, columns are tested.

    Models that were trained and tested on only one language have no row.
    """
    maps = []
    for task in tasks:
        trained = [r for r in results if r.task == task.key and r.trained_on and r.metric == task.metrics[0].key]
        columns = list(dict.fromkeys(result.language for result in trained))
        known = [result.value for result in trained if math.isfinite(result.value)]
        rows, cells = [], []
        for model in models:
            values = {(r.trained_on or "", r.language): r.value for r in trained if r.model == model}
            for language in dict.fromkeys(language for language, _ in values) if len(values) > 1 else ():
                rows.append(f"{model}, {language}")
                cells.append([values.get((language, column)) for column in columns])
        if rows and known:
            title = f"{task.title}, {task.metrics[0].title}"
            maps.append(HeatMap(title, "model, trained on", "tested on", rows, columns, cells, min(known), max(known)))
    return maps


def overlap(tokens: Mapping[str, Set]) -> HeatMap:
    """Returns the share of each model's tokens, as its tokenizer writes them, that another's has too."""
    return _shares("Tokens as they are written", tokens)


def merged_overlaps(vocabularies: Mapping[str, Vocabulary]) -> list[HeatMap]:
    """Returns the share of each teacher's tokens that another has too, by the merged ids of students.

    Students whose teachers share the same have one matrix.

    Args:
      vocabularies: by student.
    """
    maps: list[tuple[HeatMap, list[str]]] = []
    for student, vocabulary in vocabularies.items():
        tokens = {name: frozenset((ids >= 0).nonzero()[0].tolist()) for name, ids in vocabulary.teacher_ids.items()}
        heat_map = _shares("", tokens)
        students = next((students for known, students in maps if known == heat_map), None)
        if students is None:
            maps.append((heat_map, [student]))
        else:
            students.append(student)
    return [
        replace(heat_map, title=f"Teachers in the merged vocabulary of {', '.join(students)}")
        for heat_map, students in maps
    ]


def _shares(title: str, tokens: Mapping[str, Set]) -> HeatMap:
    names = list(tokens)
    shares: list[list[float | None]] = [
        [len(tokens[row] & tokens[column]) / len(tokens[row]) if tokens[row] else None for column in names]
        for row in names
    ]
    return HeatMap(title, "tokens of", "held by", names, names, shares, 0.0, 1.0)
