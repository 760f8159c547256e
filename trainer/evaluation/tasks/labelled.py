"""What tasks on labelled files share: reading them by language, checking their labels, and the jobs of a model.

A model is trained on the labels of one language, and tested on the test files of all languages: one row of the transfer
matrix.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from schemas.errors import UserError
from trainer.evaluation.config import EvaluationConfig, FineTuningConfig, LabelledConfig, ModelConfig
from trainer.evaluation.tasks.task import Job, Task

Example = TypeVar("Example")


class LabelledTask(Task, Generic[Example]):
    """A task on labelled files.

    Attributes:
      section: of the configuration, which gives the files.
      repeats: whether a model is trained once with each seed.
    """

    section: ClassVar[str]
    repeats: ClassVar[bool] = True

    def __init__(self, config: EvaluationConfig, train: Mapping[str, list[Example]], test: Mapping[str, list[Example]]):
        self.config = config
        self.train = {language: examples[: self.settings.max_train_examples] for language, examples in train.items()}
        self.test = test
        files = {"train": self.train, "test": self.test}
        self.fingerprint = _sha256(
            {
                "task": self.key,
                "settings": self.settings.model_dump(mode="json"),
                "files": {
                    use: {
                        language: [self.content(example) for example in examples] for language, examples in by.items()
                    }
                    for use, by in files.items()
                },
            }
        )

    @classmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Reads the files of the task's section of the configuration."""
        languages: dict[str, LabelledConfig] = getattr(config, cls.section)
        if not languages:
            return None
        train = {language: cls.read(given.train) for language, given in languages.items() if given.train}
        test = {language: cls.read(given.test) for language, given in languages.items() if given.test}
        for use, by_language in (("train", train), ("test", test)):
            if not by_language:
                raise UserError(f"{cls.section}: no language has `{use}` files; give them for one language at least")
        return cls(config, train, test)

    @classmethod
    @abstractmethod
    def read(cls, files: Sequence[str]) -> list[Example]:
        """The examples of some files, in their order. UserError names the file, the line and the mend."""

    @staticmethod
    @abstractmethod
    def content(example: Example) -> Any:
        """What of an example decides the scores, as a JSON value."""

    @property
    def settings(self) -> FineTuningConfig:
        """How models are fine-tuned."""
        return self.config.fine_tuning

    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """One for each language that the model is trained on, and each seed."""
        return [
            Job(self.key, name, language, seed)
            for language in self.train
            if model.languages is None or language in model.languages
            for seed in (self.config.seeds if self.repeats else [None])
        ]

    def trained_on(self, job: Job) -> str:
        """The job's language."""
        return job.language


def known_labels(section: str, train: Mapping[str, Iterable[str]], test: Iterable[tuple[str, str]]) -> list[str]:
    """The labels of the training files, sorted.

    Args:
      train: by language, the labels of all training examples.
      test: the labels of all test examples, each with where it is written.

    Raises:
      UserError: the training files of a language have one label only, or a test file has one that they lack.
    """
    known: set[str] = set()
    for language, given in train.items():
        of_language = set(given)
        if len(of_language) < 2:
            raise UserError(
                f"{section}.{language}.train: has only the label {', '.join(map(repr, of_language)) or '_'}; at least 2 "
                "different ones are needed"
            )
        known |= of_language
    labels = sorted(known)
    for where, label in test:
        if label not in known:
            raise UserError(
                f"{where}: the label {label!r} is never seen in the training files, which have {', '.join(labels[:20])}; "
                "correct it, or add training files that have it"
            )
    return labels


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
