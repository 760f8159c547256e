"""The shared part of tasks on labelled files: reading them by language, checking their labels, and the jobs of a model.

A model is trained on the labels of one language and tested on the test files of all languages: one row of the transfer
matrix.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from schemas.errors import UserError
from trainer.evaluation.config import EvaluationConfig, FineTuningConfig, LabelledConfig, ModelConfig
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.task import Job, Ratio, Scores, Task, sha256_of

Example = TypeVar("Example")
Prediction = TypeVar("Prediction")


class LabelledTask(Task, Generic[Example, Prediction]):
    """A task on labelled files.

    Attributes:
      section: the section of the configuration that gives the files.
      repeats: whether a model is trained once with each seed.
      used_settings: the fields of `fine_tuning` that decide its scores, besides `max_train_examples`.
      train, test: the examples by language; `train` has only as many as are used.
      labels: those of `train`, sorted; empty if labels do not come from a fixed set.
    """

    section: ClassVar[str]
    repeats: ClassVar[bool] = True
    used_settings: ClassVar[tuple[str, ...]] = ("learning_rate", "epochs", "batch_size", "max_length")
    needs_pad_token: ClassVar[bool] = True
    labels: Sequence[str] = ()

    def __init__(self, config: EvaluationConfig, train: Mapping[str, list[Example]], test: Mapping[str, list[Example]]):
        super().__init__(config)
        self.train = {language: examples[: self.settings.max_train_examples] for language, examples in train.items()}
        self.test = test
        self._sha256 = {
            use: {
                language: sha256_of([self.example_content(example) for example in examples])
                for language, examples in by_language.items()
            }
            for use, by_language in (("train", self.train), ("test", self.test))
        }

    @classmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Reads the files of the task's section of the configuration."""
        languages: dict[str, LabelledConfig] = getattr(config, cls.section)
        if not languages:
            return None
        train = {language: cls.read_train(given.train) for language, given in languages.items() if given.train}
        test = {language: cls.read(given.test) for language, given in languages.items() if given.test}
        for use, by_language in (("train", train), ("test", test)):
            if not by_language:
                raise UserError(f"{cls.section}: no language has `{use}` files; give them for one language at least")
        return cls(config, train, test)

    @classmethod
    @abstractmethod
    def read(cls, files: Sequence[str]) -> list[Example]:
        """Returns the examples of some files, in their order. UserError names the file, the line and the fix."""

    @classmethod
    def read_train(cls, files: Sequence[str]) -> list[Example]:
        """Returns the examples of training files, which may be read more leniently."""
        return cls.read(files)

    @staticmethod
    @abstractmethod
    def example_content(example: Example) -> Any:
        """Returns the parts of an example that decide the scores, as a JSON value."""

    @abstractmethod
    def fit(self, job: Job, model: Model) -> Callable[[str, list[Example]], list[Prediction]]:
        """Trains the model on the job's language; returns a function that predicts examples of any language."""

    @abstractmethod
    def ratios(self, examples: list[Example], predictions: list[Prediction]) -> dict[str, Ratio]:
        """Returns the task's metrics; a unit is an example."""

    def run(self, job: Job, model: Model) -> list[Scores]:
        """Trains on the job's language and tests on all languages."""
        predict = self.fit(job, model)
        return [
            Scores(language, self.ratios(examples, predict(language, examples)))
            for language, examples in self.test.items()
        ]

    @property
    def settings(self) -> FineTuningConfig:
        """How models are fine-tuned."""
        return self.config.fine_tuning

    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """One for each language that the model is trained on, and each seed."""
        return [
            Job(self.key, name, language, seed)
            for language in self.train
            if model.is_for(language)
            for seed in (self.config.seeds if self.repeats else [None])
        ]

    def trained_on(self, job: Job) -> str:
        """The job's language."""
        return job.language

    def languages(self, job: Job) -> list[str]:
        """The job's language and all test languages."""
        return list(dict.fromkeys([job.language, *self.test]))

    @property
    def max_length(self) -> int:
        """The limit of fine-tuning."""
        return self.settings.max_length

    def test_files(self, language: str) -> list[str]:
        """The test files of the language."""
        languages: dict[str, LabelledConfig] = getattr(self.config, self.section)
        return languages[language].test or []

    def content(self, job: Job) -> Any:
        """The training examples of the job's language, all test examples, and the settings."""
        settings = {name: getattr(self.settings, name) for name in self.used_settings}
        return [self._sha256["train"][job.language], self._sha256["test"], self.labels, settings]


def known_labels(section: str, train: Mapping[str, Iterable[str]], test: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the labels of the training files, sorted.

    Args:
      train: by language, the labels of the training examples that are used.
      test: the labels of all test examples, each with its place in a file.

    Raises:
      UserError: the training files of a language have only one label, or a test file has a label that they lack.
    """
    known: set[str] = set()
    for language, given in train.items():
        of_language = set(given)
        if len(of_language) < 2:
            raise UserError(
                f"{section}.{language}.train: has only the label {', '.join(map(repr, of_language)) or '_'}; at least 2 "
                "different ones are needed among the examples that are used (`fine_tuning.max_train_examples`)"
            )
        known |= of_language
    labels = sorted(known)
    for where, label in test:
        if label not in known:
            raise UserError(
                f"{where}: the label {label!r} is never seen in the training files, which have "
                f"{', '.join(labels[:20])}; correct it, or add training examples that have it"
            )
    return labels
