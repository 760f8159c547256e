"""Questions on paragraphs: SQuAD's JSON, v1.1 and v2, which XQuAD, MLQA and TyDi GoldP use too."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from schemas.errors import UserError, first_line, printable
from schemas.secrets import without_secrets
from trainer.evaluation.formats.lines import read_text

logger = logging.getLogger(__name__)

# JSON may escape half of a surrogate pair, which no tokenizer reads. Python joins the halves of a whole pair.
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Question:
    """A question on a text.

    Attributes:
      answers: the correct spans of the context, as (first character, text); empty if the context has no answer.
    """

    question: str
    context: str
    answers: list[tuple[int, str]]


class _Answer(BaseModel):
    text: str
    answer_start: int


class _Question(BaseModel):
    question: str
    id: str | int = "without id"
    answers: list[_Answer] = []
    is_impossible: bool = False


class _Paragraph(BaseModel):
    context: str
    qas: list[_Question]


class _Article(BaseModel):
    paragraphs: list[_Paragraph]


class _File(BaseModel):
    data: list[_Article]


def read_questions(files: Sequence[str], *, leave_out: bool = False) -> list[Question]:
    """Returns the questions of some files, in their order.

    Args:
      leave_out: whether to drop an answer that is not at its given place in the context, and a question left without
        answers, as is acceptable for training files. The number dropped is logged.

    Raises:
      UserError: a file is missing, empty, not UTF-8, not such JSON, has no questions, or has half of a surrogate pair, or an
        answer is not at its given place in the context.
    """
    return [question for file in files for question in _read(file, leave_out)]


def _read(file: str, leave_out: bool) -> list[Question]:
    shown = without_secrets(file)
    try:
        content = _File.model_validate(json.loads(read_text(file)))
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"{shown}: {field or 'the file'}: {fault['msg']}; give a file in SQuAD's layout") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown}: is not JSON ({first_line(error)}); give a file in SQuAD's layout") from None
    questions, faults = [], []
    for paragraph in (paragraph for article in content.data for paragraph in article.paragraphs):
        for asked in paragraph.qas:
            where = f"question {asked.id}"
            for field, text in (("question", asked.question), ("context", paragraph.context)):
                if lone := _SURROGATE.search(text):
                    raise UserError(
                        f"{shown}: {where}: its {field} has half a character, {lone[0]!a}, at character {lone.start()}; "
                        "write the whole character, or take it out"
                    )
            answers = [] if asked.is_impossible else [(answer.answer_start, answer.text) for answer in asked.answers]
            if not answers and not asked.is_impossible:
                raise UserError(f"{shown}: {where}: has no answers; give one, or set is_impossible to true")
            right = []
            for start, text in answers:
                there = paragraph.context[start : start + len(text)] if start >= 0 else ""
                if text and there == text:
                    right.append((start, text))
                else:
                    faults.append(
                        f"{where}: the context has {there[:50]!r} at answer_start {start}, not the answer {text[:50]!r}; "
                        "count answer_start in characters from 0"
                    )
            if right or not answers:
                questions.append(Question(asked.question, paragraph.context, right))
    if faults and not (leave_out and questions):
        raise UserError(f"{shown}: {faults[0]}")
    if faults:
        logger.warning(printable(f"{shown}: {len(faults)} answers are left out of the training; first: {faults[0]}"))
    if not questions:
        raise UserError(f"{shown}: has no questions; give a file that has some")
    return questions
