"""A task: files that are read and checked at the start, and jobs that each score one model and are stored.

Every metric is a ratio of two sums over units (sentences, pairs, questions): accuracy is correct words over words, F1 is
2 TP over 2 TP + FP + FN, bits per character is bits over characters. So all of them use the same intervals and paired tests,
which resample the units (`trainer.evaluation.statistics`).
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from transformers import AutoModelForMaskedLM

from trainer.evaluation.config import EvaluationConfig, ModelConfig
from trainer.evaluation.models import Model


@dataclass(frozen=True)
class Metric:
    """One figure of a task.

    Attributes:
      key: its name in files, such as `bits_per_character`.
      title: its name in reports, such as "bits per character".
      higher_is_better: the better direction.
      ranks: whether a better value means a better model. Other metrics only describe: no value is marked as the best, and
        none decides between a student and its teacher.
    """

    key: str
    title: str
    higher_is_better: bool = True
    ranks: bool = True

    @property
    def title_with_direction(self) -> str:
        """Its title, and which direction is better if the metric ranks."""
        direction = " (higher is better)" if self.higher_is_better else " (lower is better)"
        return self.title + direction * self.ranks


@dataclass(frozen=True)
class Ratio:
    """A metric's value as a ratio of sums over U units, in the order of the test file.

    Attributes:
      numerators_U, denominators_U: float64. The value is the sum of the former over the sum of the latter.
    """

    numerators_U: np.ndarray
    denominators_U: np.ndarray

    @property
    def value(self) -> float:
        """The metric's value; NaN if the denominators sum to 0."""
        total = self.denominators_U.sum()
        return float(self.numerators_U.sum() / total) if total else float("nan")


@dataclass(frozen=True)
class Scores:
    """A model's scores on the test data of one language (in retrieval: of one pair in one direction).

    Attributes:
      language: of the test data.
      ratios: by the key of the metric.
      figures: further numbers, which have no interval.
      questions: sha256 over what the model has to predict, if that depends on its tokenizer; None if it is the same for all
        models. Only scores with the same questions are comparable.
    """

    language: str
    ratios: dict[str, Ratio]
    figures: dict[str, float] = field(default_factory=dict)
    questions: str | None = None


@dataclass(frozen=True)
class TaskFiles:
    """The files of a task in one language.

    Attributes:
      name: the language; in retrieval, the name of the pair of files.
      files: by use (`test`, `train` or `validation`), as the configuration names them.
      units: how many units of the `train` and `validation` files are used. Scores say how many were tested.
    """

    name: str
    files: dict[str, list[str]]
    units: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One piece of work whose scores are stored.

    Attributes:
      language: of the text, or of the training labels.
      seed: of the fine-tuning; None if nothing is random.
    """

    task: str
    model: str
    language: str
    seed: int | None = None


class Task(ABC):
    """One task on its files.

    Attributes:
      config: the evaluation's.
      key, title: its name in files and in reports.
      metrics: summaries show the first.
      section: the section of the configuration that names its files.
      unit: what metrics are summed over, in the singular.
      hub_task: the name of the task on a hub, in model cards.
      version: raised with every change of code that changes the scores of the same data and settings.
      auto_class: the transformers class that loads models for it; None if it needs no weights.
      needs_mask_token, needs_pad_token, needs_hidden_states: whether models without one (for each token) are rejected.
      cuts_text: whether long text is cut into pieces (`trainer.evaluation.pieces`).
      shortest: the minimum sequence length, in tokens with special ones included.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    metrics: ClassVar[Sequence[Metric]]
    section: ClassVar[str]
    unit: ClassVar[str] = "sentence"
    hub_task: ClassVar[str] = "fill-mask"
    version: ClassVar[int] = 1
    auto_class: ClassVar[Any] = AutoModelForMaskedLM
    needs_mask_token: ClassVar[bool] = False
    needs_pad_token: ClassVar[bool] = False
    needs_hidden_states: ClassVar[bool] = False
    cuts_text: ClassVar[bool] = False
    shortest: ClassVar[int] = 0

    def __init__(self, config: EvaluationConfig):
        self.config = config

    @classmethod
    @abstractmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Reads and checks the task's files; returns None if the configuration gives none.

        Raises:
          UserError: names the file, the line and the fix.
        """

    @abstractmethod
    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """Returns the jobs of one model."""

    @abstractmethod
    def files(self) -> list[TaskFiles]:
        """Returns the files that the task reads, in the order of the configuration."""

    def languages(self, job: Job) -> Sequence[str]:
        """The languages whose text a job reads."""
        return [job.language]

    @property
    def head(self) -> dict[str, Any]:
        """Settings of a new head, as fields of a model's configuration; empty if `auto_class` adds no new head."""
        return {}

    @property
    def max_length(self) -> int:
        """The most tokens in a sequence, special ones included."""
        return self.config.max_length

    @abstractmethod
    def content(self, job: Job) -> Any:
        """The data and the settings that decide a job's scores, as a JSON value."""

    def fingerprint(self, job: Job) -> str:
        """Returns a sha256 over everything that decides a job's scores, except the model and the seed."""
        return sha256_of([self.key, self.version, self.content(job)])

    def trained_on(self, job: Job) -> str | None:
        """Returns the language of the labels that a job trains on; None if it trains nothing."""
        return None

    @abstractmethod
    def run(self, job: Job, model: Model) -> list[Scores]:
        """Scores `model`; returns one entry for each test language."""


def sha256_of(content: Any) -> str:
    """Returns the sha256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
