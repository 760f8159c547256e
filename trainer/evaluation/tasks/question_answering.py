"""Extractive question answering by a fine-tuned model.

A context that is too long for the model is split into overlapping windows. The answer is the span with the highest sum of
its start and end logits over all windows. If the training files have questions without an answer, the model gives none when
the first token's lowest such sum over the windows is higher (as in Devlin et al. 2019, without a threshold).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self, cast

import numpy as np
from transformers import AutoModelForQuestionAnswering, DataCollatorWithPadding, PreTrainedModel

from schemas.errors import UserError
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.formats.squad import Question, read_questions
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.fine_tuning import fine_tune
from trainer.evaluation.tasks.forward import encode, forward_by_length, rows_of
from trainer.evaluation.tasks.labelled import LabelledTask
from trainer.evaluation.tasks.squad_metrics import exact_match, f1
from trainer.evaluation.tasks.task import Job, Metric, Ratio

logger = logging.getLogger(__name__)

# The longest answer to search for, as in BERT's own evaluation.
_ANSWER_TOKENS = 30
# The question takes up to half of a window, and windows overlap by a quarter: a shorter window has no room left.
_SHORTEST = 24


class QuestionAnswering(LabelledTask[Question, str]):
    """F1 over words, and exact match, of the answers."""

    key: ClassVar = "question_answering"
    title: ClassVar = "question answering"
    hub_task: ClassVar = "question-answering"
    auto_class: ClassVar = AutoModelForQuestionAnswering
    shortest: ClassVar = _SHORTEST
    version: ClassVar = 2
    section: ClassVar = "question_answering"
    unit: ClassVar = "question"
    metrics: ClassVar = (Metric("f1", "F1"), Metric("exact_match", "exact match"))

    def __init__(
        self, config: EvaluationConfig, train: Mapping[str, list[Question]], test: Mapping[str, list[Question]]
    ):
        super().__init__(config, train, test)
        without = sum(not question.answers for questions in test.values() for question in questions)
        certain = [language for language, questions in self.train.items() if all(one.answers for one in questions)]
        if without and certain:
            logger.warning(
                "question_answering: %d test questions have no answer, but all training questions in %s have one, so models "
                "trained on them always give an answer",
                without,
                ", ".join(certain),
            )

    @classmethod
    def from_config(cls, config: EvaluationConfig) -> Self | None:
        """Reads the files. Raises UserError if one is bad, or sequences are too short for a question and some context."""
        if config.question_answering and config.fine_tuning.max_length < _SHORTEST:
            raise UserError(
                f"fine_tuning.max_length: {config.fine_tuning.max_length} tokens are too few for a question and a piece of "
                f"its context; raise it to at least {_SHORTEST}, or leave question_answering out"
            )
        return super().from_config(config)

    @classmethod
    def read(cls, files: Sequence[str]) -> list[Question]:
        """The questions of some files."""
        return read_questions(files)

    @property
    def head(self) -> dict[str, Any]:
        """A logit for the start of an answer, and one for its end."""
        return {"num_labels": 2}

    @classmethod
    def read_train(cls, files: Sequence[str]) -> list[Question]:
        """The questions of some files, without answers that are not at their place in the context."""
        return read_questions(files, leave_out=True)

    @staticmethod
    def example_content(example: Question) -> Any:
        """The question, its context and its answers."""
        return [example.question, example.context, example.answers]

    def ratios(self, examples: list[Question], predictions: list[str]) -> dict[str, Ratio]:
        """F1 and exact match; a unit is a question."""
        right = [[text for _, text in question.answers] for question in examples]
        return {
            metric: Ratio(
                np.array([score(given, answers) for given, answers in zip(predictions, right, strict=True)]),
                np.ones(len(examples)),
            )
            for metric, score in (("f1", f1), ("exact_match", exact_match))
        }

    def fit(self, job: Job, model: Model) -> Callable[[str, list[Question]], list[str]]:
        """Fine-tunes the model; returns a function that answers questions in a language."""
        train = self.train[job.language]
        examples = []
        encoded = self._windows(model, job.language, train)
        for window, inputs in enumerate(rows_of(encoded)):
            start, end = _answer_tokens(encoded, window, train[encoded["overflow_to_sample_mapping"][window]])
            examples.append({**inputs, "start_positions": start, "end_positions": end})
        tuned = fine_tune(
            model,
            self.auto_class,
            examples,
            DataCollatorWithPadding(model.tokenizer(job.language)),
            self.settings,
            cast(int, job.seed),
            self.head,
        )
        may_refuse = any(not question.answers for question in train)
        return partial(self._answers, model, tuned, may_refuse)

    def _windows(self, model: Model, language: str, questions: list[Question]) -> Any:
        """Returns each question with windows of its context; a question is cut to at most half of a window."""
        tokenizer = model.tokenizer(language)
        limit = min(self.settings.max_length, model.max_length)
        asked = tokenizer(
            [question.question.strip() for question in questions],
            add_special_tokens=False,
            truncation=True,
            max_length=limit // 2,
            return_offsets_mapping=True,
        )
        cut = [
            question.question.strip()[: offsets[-1][1] if offsets else 0]
            for question, offsets in zip(questions, asked["offset_mapping"], strict=True)
        ]
        return encode(
            model,
            tokenizer,
            cut,
            [question.context for question in questions],
            truncation="only_second",
            max_length=limit,
            stride=limit // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )

    def _answers(
        self, model: Model, tuned: PreTrainedModel, may_refuse: bool, language: str, questions: list[Question]
    ) -> list[str]:
        encoded = self._windows(model, language, questions)
        best = [(-np.inf, "")] * len(questions)
        refusal_Q = np.full(len(questions), np.inf)
        for rows, output in forward_by_length(
            tuned, model.tokenizer(language), rows_of(encoded), self.config.batch_tokens
        ):
            starts_BL, ends_BL = output.start_logits.float().cpu().numpy(), output.end_logits.float().cpu().numpy()
            for window, start_L, end_L in zip(rows, starts_BL, ends_BL, strict=True):
                number = encoded["overflow_to_sample_mapping"][window]
                refusal_Q[number] = min(refusal_Q[number], start_L[0] + end_L[0])
                first, last = _context_tokens(encoded, window)
                if first == last:
                    continue
                score, start, end = _best_span(start_L[first:last], end_L[first:last])
                if score > best[number][0]:
                    offsets = encoded["offset_mapping"][window]
                    context = questions[number].context
                    best[number] = score, context[offsets[first + start][0] : offsets[first + end][1]].strip()
        return [
            "" if may_refuse and refusal > score else text
            for (score, text), refusal in zip(best, refusal_Q, strict=True)
        ]


def _best_span(start_L: np.ndarray, end_L: np.ndarray) -> tuple[float, int, int]:
    """Returns the highest start + end over spans of at most `_ANSWER_TOKENS` tokens, and the span's first and last token."""
    sums_LL = start_L[:, None] + end_L[None, :]
    lengths_LL = np.arange(len(end_L))[None, :] - np.arange(len(start_L))[:, None] + 1
    sums_LL[(lengths_LL < 1) | (lengths_LL > _ANSWER_TOKENS)] = -np.inf
    start, end = divmod(int(sums_LL.argmax()), len(end_L))
    return float(sums_LL[start, end]), start, end


def _context_tokens(encoded: Any, window: int) -> tuple[int, int]:
    """Returns the first context token of a window, and the one after the last."""
    tokens = [token for token, part in enumerate(encoded.sequence_ids(window)) if part == 1]
    return (tokens[0], tokens[-1] + 1) if tokens else (0, 0)


def _answer_tokens(encoded: Any, window: int, question: Question) -> tuple[int, int]:
    """Returns the first and last token of the first answer; (0, 0) if the window does not have the whole answer."""
    first, last = _context_tokens(encoded, window)
    if not question.answers or first == last:
        return 0, 0
    start, text = question.answers[0]
    end = start + len(text)
    offsets = encoded["offset_mapping"][window]
    if start < offsets[first][0] or end > offsets[last - 1][1]:
        return 0, 0
    inside = [token for token in range(first, last) if offsets[token][0] < end and offsets[token][1] > start]
    return (inside[0], inside[-1]) if inside else (0, 0)
