"""What tasks on plain text have in common."""

import hashlib
import json
from typing import ClassVar, Self

from trainer.evaluation.config import EvaluationConfig, ModelConfig
from trainer.evaluation.formats.text import open_text
from trainer.evaluation.tasks.task import Job, Task


class PlainTextTask(Task):
    """A task on `text`, with a job for each language of a model.

    Attributes:
      settings: the fields of the configuration that decide its scores.
    """

    settings: ClassVar[tuple[str, ...]]

    def __init__(self, config: EvaluationConfig):
        self.config = config
        self.texts = {language: open_text(language, text) for language, text in config.text.items()}
        content = [
            {language: text.sha256 for language, text in self.texts.items()},
            {name: getattr(config, name) for name in self.settings},
        ]
        self.fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Finds and checks the text of all languages."""
        return cls(config) if config.text else None

    def jobs(self, name: str, model: ModelConfig) -> list[Job]:
        """One for each language of the text that the model was made for."""
        languages = [language for language in self.texts if model.languages is None or language in model.languages]
        return [Job(self.key, name, language) for language in languages]
