"""The shared part of tagging and entities: a label for each word, predicted by a classifier over tokens.

A word's label is learned and predicted at its first token, as is usual.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

from schemas.errors import UserError
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.formats.columns import Row
from trainer.evaluation.formats.labelled_words import Sentence, read_sentences
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.fine_tuning import fine_tune
from trainer.evaluation.tasks.forward import forward_by_length
from trainer.evaluation.tasks.labelled import LabelledTask, known_labels
from trainer.evaluation.tasks.task import Job
from trainer.evaluation.tasks.word_inputs import encode_sentences

# transformers' convention for a token without a label to learn.
_IGNORED = -100

# A label for each word of a sentence; None for a word that the tokenizer drops.
Labels = list[str | None]


class WordLabels(LabelledTask[Sentence, Labels]):
    """A task with a label for each word."""

    hub_task: ClassVar = "token-classification"
    auto_class: ClassVar[Any] = AutoModelForTokenClassification
    version: ClassVar = 3

    def __init__(
        self, config: EvaluationConfig, train: Mapping[str, list[Sentence]], test: Mapping[str, list[Sentence]]
    ):
        super().__init__(config, train, test)
        self.labels = known_labels(
            self.section,
            {
                language: (label for sentence in sentences for label in sentence.labels if label is not None)
                for language, sentences in self.train.items()
            },
            {
                language: (
                    (sentence.where(word), label)
                    for sentence in sentences
                    for word, label in enumerate(sentence.labels)
                    if label is not None
                )
                for language, sentences in test.items()
            },
        )

    @classmethod
    def read(cls, files: Sequence[str]) -> list[Sentence]:
        """The sentences of some files."""
        return read_sentences(files)

    @property
    def head(self) -> dict[str, Any]:
        """A logit for each label."""
        return {"num_labels": len(self.labels)}

    @staticmethod
    def rows(example: Sentence) -> Iterable[Row]:
        """Its words and labels."""
        return example.rows()

    @staticmethod
    def example_content(example: Sentence) -> Any:
        """Its words and labels."""
        return [example.words, example.labels]

    def nothing_to_learn(self, job: Job) -> UserError:
        """The error that no word with a label becomes a token."""
        return UserError(
            f"{self.section}.{job.language}.train: the tokenizer of models.{job.model} makes a token of no word that has a "
            "label, among the first words that are used; correct the file"
        )

    def fit(self, job: Job, model: Model) -> Callable[[str, list[Sentence]], list[Labels]]:
        """Fine-tunes the model; returns a function that labels sentences of a language."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        sentences = self.train[job.language]
        examples = []
        for piece in encode_sentences(model, job.language, sentences, self.settings.max_length):
            targets = [_IGNORED] * len(piece.inputs["input_ids"])
            for word, (first, *_) in piece.tokens.items():
                label = sentences[piece.sentence].labels[word]
                if label is not None:
                    targets[first] = numbers[label]
            # Skip pieces without any label: a batch of them would have no loss.
            if set(targets) != {_IGNORED}:
                examples.append({**piece.inputs, "labels": targets})
        if not examples:
            raise self.nothing_to_learn(job)
        collator = DataCollatorForTokenClassification(model.tokenizer(job.language))
        tuned = fine_tune(
            model,
            self.auto_class,
            examples,
            collator,
            self.settings,
            cast(int, job.seed),
            self.head,
        )

        def predict(language: str, sentences: list[Sentence]) -> list[Labels]:
            pieces = encode_sentences(model, language, sentences, self.settings.max_length)
            predictions: list[Labels] = [[None] * len(sentence.words) for sentence in sentences]
            inputs = [piece.inputs for piece in pieces]
            for rows, output in forward_by_length(tuned, model.tokenizer(language), inputs, self.config.batch_tokens):
                chosen_BL = output.logits.argmax(-1).cpu()
                for row, chosen_L in zip(rows, chosen_BL.tolist(), strict=True):
                    for word, (first, *_) in pieces[row].tokens.items():
                        predictions[pieces[row].sentence][word] = self.labels[chosen_L[first]]
            return predictions

        return predict
