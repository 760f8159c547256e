"""What a task is: files that are read and checked at once, and jobs that score one model and can be kept.

Every metric is a ratio of two sums over units (sentences, pairs, questions): accuracy is correct words over words, F1 is
2 TP over 2 TP + FP + FN, bits per character is bits over characters. So intervals and paired tests are the same for all of
them: they resample the units (`trainer.evaluation.statistics`).
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
      higher_is_better: which way is better.
      ranks: whether a better value makes a better model. Other metrics only describe: no value is marked as the best, and
        none decides between a student and its teacher.
    """

    key: str
    title: str
    higher_is_better: bool = True
    ranks: bool = True


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
    """What a model reached on the test data of one language (in retrieval: of one pair, one way).

    Attributes:
      language: of the test data.
      ratios: by the key of the metric.
      figures: further numbers, which have no interval.
      questions: sha256 over what the model was asked, where that depends on its tokenizer; None where all models are asked
        the same. Only answers to the same questions compare.
    """

    language: str
    ratios: dict[str, Ratio]
    figures: dict[str, float] = field(default_factory=dict)
    questions: str | None = None


@dataclass(frozen=True)
class Job:
    """One piece of work, whose scores are kept.

    Attributes:
      language: of the text, or of the labels that are trained on.
      seed: of the fine-tuning; None where nothing is drawn.
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
      metrics: the first is the one that summaries show.
      hub_task: what a hub calls the task, in model cards.
      version: raised with every change of code that gives other scores of the same data and settings.
      auto_class: the class of transformers that loads models for it; None where it needs no weights.
      needs_mask_token, needs_pad_token: whether models without one are refused.
      cuts_text: whether long text is cut into pieces (`trainer.evaluation.pieces`).
      shortest: the fewest tokens of a sequence, special ones included, with which it can be run.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    metrics: ClassVar[Sequence[Metric]]
    hub_task: ClassVar[str] = "fill-mask"
    version: ClassVar[int] = 1
    auto_class: ClassVar[Any] = AutoModelForMaskedLM
    needs_mask_token: ClassVar[bool] = False
    needs_pad_token: ClassVar[bool] = False
    cuts_text: ClassVar[bool] = False
    shortest: ClassVar[int] = 0

    def __init__(self, config: EvaluationConfig):
        self.config = config

    @classmethod
    @abstractmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Reads and checks the task's files; None where the configuration gives none.

        Raises:
          UserError: names the file, the line and the mend.
        """

    @abstractmethod
    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """The jobs of one model."""

    def languages(self, job: Job) -> Sequence[str]:
        """The languages whose text a job reads."""
        return [job.language]

    @property
    def head(self) -> dict[str, Any]:
        """Settings of a new head, in the words of a model's configuration; empty where `auto_class` gives no new one."""
        return {}

    @property
    def max_length(self) -> int:
        """The most tokens of a sequence that models are given, special ones included."""
        return self.config.max_length

    @abstractmethod
    def content(self, job: Job) -> Any:
        """The data and the settings that decide a job's scores, as a JSON value."""

    def fingerprint(self, job: Job) -> str:
        """sha256 over what decides a job's scores, but for the model and the seed."""
        return sha256_of([self.key, self.version, self.content(job)])

    def trained_on(self, job: Job) -> str | None:
        """The language of the labels that a job trains on; None where it trains nothing."""
        return None

    @abstractmethod
    def run(self, job: Job, model: Model) -> list[Scores]:
        """Scores `model`; one entry for each language that is tested."""


def sha256_of(content: Any) -> str:
    """Of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
