"""The shared part of tasks on plain text."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from trainer.evaluation.config import EvaluationConfig, ModelConfig
from trainer.evaluation.formats.text import LanguageText, open_text
from trainer.evaluation.tasks.task import Job, Task


class PlainTextTask(Task):
    """A task on `text`, with a job for each language of a model.

    Attributes:
      settings: the fields of the configuration that decide its scores.
      texts: by language.
    """

    settings: ClassVar[tuple[str, ...]]
    cuts_text: ClassVar = True

    def __init__(self, config: EvaluationConfig, texts: Mapping[str, LanguageText]):
        super().__init__(config)
        self.texts = texts

    @classmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Finds and checks the text of all languages."""
        return cls(config, open_texts(config)) if config.text else None

    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """Returns one job for each language of the text that the model was made for."""
        return [Job(self.key, name, language) for language in self.texts if model.is_for(language)]

    def test_files(self, language: str) -> list[str]:
        """The files of the language's text."""
        return self.config.text[language].files

    def content(self, job: Job) -> Any:
        """The language's text, and the settings."""
        return [self.texts[job.language].sha256, {name: getattr(self.config, name) for name in self.settings}]


def open_texts(config: EvaluationConfig) -> dict[str, LanguageText]:
    """Finds and checks the text of all languages; reads each file once. Raises UserError like `open_text`."""
    return {language: open_text(language, text) for language, text in config.text.items()}
