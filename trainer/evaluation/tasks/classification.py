"""Classification of sentences and sentence pairs by a fine-tuned model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from schemas.errors import UserError
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.formats.columns import Row
from trainer.evaluation.formats.sentences import LabelledText, read_labelled_texts
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.fine_tuning import fine_tune
from trainer.evaluation.tasks.forward import Inputs, encode, forward_by_length, rows_of
from trainer.evaluation.tasks.labelled import LabelledTask, known_labels
from trainer.evaluation.tasks.task import Job, Metric, Ratio


class Classification(LabelledTask[LabelledText, str]):
    """The share of sentences, or pairs, with the right label."""

    key: ClassVar = "classification"
    title: ClassVar = "classification"
    hub_task: ClassVar = "text-classification"
    auto_class: ClassVar = AutoModelForSequenceClassification
    version: ClassVar = 2
    section: ClassVar = "classification"
    unit: ClassVar = "example"
    metrics: ClassVar = (Metric("accuracy", "accuracy"),)

    def __init__(
        self, config: EvaluationConfig, train: Mapping[str, list[LabelledText]], test: Mapping[str, list[LabelledText]]
    ):
        super().__init__(config, train, test)
        self.labels = known_labels(
            self.section,
            {language: (example.label for example in examples) for language, examples in self.train.items()},
            {language: ((example.where, example.label) for example in examples) for language, examples in test.items()},
        )
        everything = [example for files in (train, test) for examples in files.values() for example in examples]
        for example in everything:
            if len(example.texts) != len(everything[0].texts):
                raise UserError(
                    f"{example.where}: has {len(example.texts) + 1} columns, but {everything[0].where} has "
                    f"{len(everything[0].texts) + 1}; all files of the task need the same number"
                )

    @classmethod
    def read(cls, files: Sequence[str]) -> list[LabelledText]:
        """The examples of some files."""
        return read_labelled_texts(files)

    @property
    def head(self) -> dict[str, Any]:
        """A logit for each label; overrides the problem type, since a checkpoint's config.json may name another one."""
        return {"num_labels": len(self.labels), "problem_type": "single_label_classification"}

    @staticmethod
    def rows(example: LabelledText) -> Iterable[Row]:
        """Its sentences and label."""
        return [Row(example.file, example.line, (*example.texts, example.label))]

    @staticmethod
    def example_content(example: LabelledText) -> Any:
        """Its sentences and label."""
        return [example.texts, example.label]

    def ratios(self, examples: list[LabelledText], predictions: list[str]) -> dict[str, Ratio]:
        """The share of correct labels; a unit is a sentence or pair."""
        right = [example.label == given for example, given in zip(examples, predictions, strict=True)]
        return {"accuracy": Ratio(np.array(right, np.float64), np.ones(len(examples)))}

    def fit(self, job: Job, model: Model) -> Callable[[str, list[LabelledText]], list[str]]:
        """Fine-tunes the model; returns a function that labels examples of a language."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        train = self.train[job.language]
        examples = [
            {**inputs, "labels": numbers[example.label]}
            for inputs, example in zip(self._encode(model, job.language, train), train, strict=True)
        ]
        tuned = fine_tune(
            model,
            self.auto_class,
            examples,
            DataCollatorWithPadding(model.tokenizer(job.language)),
            self.settings,
            cast(int, job.seed),
            self.head,
        )

        def predict(language: str, examples: list[LabelledText]) -> list[str]:
            predictions = [""] * len(examples)
            inputs = self._encode(model, language, examples)
            for rows, output in forward_by_length(tuned, model.tokenizer(language), inputs, self.config.batch_tokens):
                for row, chosen in zip(rows, output.logits.argmax(-1).tolist(), strict=True):
                    predictions[row] = self.labels[chosen]
            return predictions

        return predict

    def _encode(self, model: Model, language: str, examples: list[LabelledText]) -> list[Inputs]:
        """Returns the model's inputs; if a pair is too long, the longer sentence is cut first."""
        columns = [list(column) for column in zip(*(example.texts for example in examples), strict=True)]
        limit = min(self.settings.max_length, model.max_length)
        return rows_of(encode(model, model.tokenizer(language), *columns, max_length=limit))
