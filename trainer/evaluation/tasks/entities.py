"""Named entities: F1 of whole entities, by the default of seqeval, which XTREME uses too."""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities

from schemas.errors import UserError
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.formats.labelled_words import Sentence
from trainer.evaluation.tasks.task import Metric, Ratio
from trainer.evaluation.tasks.token_classification import Labels, WordLabels

_OUTSIDE = "O"
_LABEL = re.compile(r"O|[BI]-\S+")


class EntityRecognition(WordLabels):
    """F1 of entities; type and boundaries must both be correct."""

    key: ClassVar = "entities"
    title: ClassVar = "entities"
    section: ClassVar = "entities"
    version: ClassVar = 4
    metrics: ClassVar = (Metric("f1", "F1"),)

    def __init__(
        self, config: EvaluationConfig, train: Mapping[str, list[Sentence]], test: Mapping[str, list[Sentence]]
    ):
        super().__init__(config, train, test)
        for language, sentences in test.items():
            if all(label == _OUTSIDE for sentence in sentences for label in sentence.labels):
                raise UserError(
                    f"{self.section}.{language}.test: has only the label O, so there is no entity to find and no F1; give files "
                    "with entities, or leave `test` out"
                )

    @classmethod
    def read(cls, files: Sequence[str]) -> list[Sentence]:
        """Returns sentences with IOB2 labels. Raises UserError for other labels."""
        sentences = super().read(files)
        _check_iob2(sentences)
        return sentences

    def ratios(self, sentences: list[Sentence], predictions: list[Labels]) -> dict[str, Ratio]:
        """2 TP over 2 TP + FP + FN; a unit is a sentence. Words that the tokenizer drops count as outside of entities."""
        true = _entities([sentence.labels for sentence in sentences])
        given = _entities(predictions)
        right = [2 * len(one & other) for one, other in zip(true, given, strict=True)]
        both = [len(one) + len(other) for one, other in zip(true, given, strict=True)]
        return {"f1": Ratio(np.array(right, np.float64), np.array(both, np.float64))}


def _entities(labels: Sequence[Labels]) -> list[set]:
    """Returns seqeval's entities of each sentence as (type, first word, last word). A stray `I-` begins an entity."""
    return [set(get_entities([label or _OUTSIDE for label in sentence])) for sentence in labels]


def _check_iob2(sentences: list[Sentence]) -> None:
    """Raises UserError for other schemes. Published files have a few `I-` after `O`; they count as in seqeval."""
    beginnings, strays = 0, []
    for sentence in sentences:
        before = _OUTSIDE
        for word, label in enumerate(sentence.labels):
            if label is None or not _LABEL.fullmatch(label):
                raise UserError(
                    f"{sentence.where(word)}: the label {label or '_'!r} is not IOB2; use O, B-TYPE for the first word of an "
                    "entity, and I-TYPE for its other words"
                )
            beginnings += label.startswith("B-")
            if label.startswith("I-") and before not in (label, f"B-{label[2:]}"):
                strays.append((sentence.where(word), label))
            before = label
    if len(strays) > beginnings:
        where, label = strays[0]
        raise UserError(
            f"{where}: {label} begins an entity, as in IOB1, as do {len(strays)} labels in all; convert the file to IOB2, where "
            "each entity begins with B-"
        )
