"""Labelled sentences: TSV of one or two sentences and a label, like XTREME's XNLI and PAWS-X."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import UserError
from schemas.secrets import without_secrets
from trainer.evaluation.formats.columns import check_label_column, fields_of
from trainer.evaluation.formats.headers import is_header, is_label_first
from trainer.evaluation.formats.lines import read_lines


@dataclass(frozen=True)
class LabelledText:
    """One sentence or a pair, and its label.

    Attributes:
      file, line: where it comes from.
    """

    texts: tuple[str, ...]
    label: str
    file: str
    line: int

    @property
    def where(self) -> str:
        """Its `file:line`, for messages."""
        return f"{self.file}:{self.line}"


def read_labelled_texts(files: Sequence[str]) -> list[LabelledText]:
    """Returns the examples of some files, in their order.

    A line has one or two sentences and a label, separated by tabs (`fields_of`). A first line whose last column has a name
    such as `label` is a header. Blank lines are skipped.

    Raises:
      UserError: a file is missing, empty or not UTF-8, a sentence or a label is empty, the lines differ in their number of
        columns, or the label is not in the last one.
    """
    examples: list[LabelledText] = []
    for file in files:
        shown, rows = without_secrets(file), []
        for number, line in enumerate(read_lines(file), 1):
            columns = [column.strip() for column in fields_of(line)]
            if not any(columns) or (number == 1 and is_header(columns)):
                continue
            where = f"{shown}:{number}"
            if number == 1 and is_label_first(columns):
                raise UserError(
                    f"{where}: {columns[0]!r} is the first column; the label is expected last, so exchange them"
                )
            _check(where, columns, examples)
            rows.append(columns)
            examples.append(LabelledText(tuple(columns[:-1]), columns[-1], shown, number))
        if not rows:
            raise UserError(f"{shown}: has a header only; give a file with examples")
        check_label_column(shown, rows)
    return examples


def _check(where: str, columns: list[str], examples: list[LabelledText]) -> None:
    if len(columns) not in (2, 3):
        given = "one column" if len(columns) == 1 else f"{len(columns)} columns"
        raise UserError(f"{where}: has {given}; write a sentence or two and a label, with a tab after each sentence")
    if examples and len(columns) != len(examples[0].texts) + 1:
        raise UserError(
            f"{where}: has {len(columns)} columns, and {examples[0].where} has {len(examples[0].texts) + 1}; give all lines "
            "the same number"
        )
    if empty := [number for number, column in enumerate(columns, 1) if not column]:
        raise UserError(f"{where}: column {empty[0]} is empty; fill it in, or leave the line out")
