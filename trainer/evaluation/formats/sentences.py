"""Labelled sentences: TSV of one or two sentences and a label, like XTREME's XNLI and PAWS-X."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import UserError
from schemas.secrets import without_secrets
from trainer.evaluation.formats.columns import check_label_column, check_quotes, fields_of
from trainer.evaluation.formats.headers import check_header, is_header
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
        columns, a header has others than sentences, or the label is not in the last one.
    """
    examples: list[LabelledText] = []
    # The first line's `file:line` and number of columns.
    first: tuple[str, int] | None = None
    for file in files:
        shown, rows = without_secrets(file), []
        for number, line in enumerate(read_lines(file), 1):
            columns = [column.strip() for column in fields_of(line)]
            if not any(columns):
                continue
            where = f"{shown}:{number}"
            first = first or (where, len(columns))
            if number == 1:
                check_quotes(shown, line)
                check_header(shown, columns)
                if is_header(columns):
                    continue
            _check(where, columns, first)
            rows.append(columns)
            examples.append(LabelledText(tuple(columns[:-1]), columns[-1], shown, number))
        if not rows:
            raise UserError(f"{shown}: has only a header; give a file with examples")
        check_label_column(shown, rows)
    return examples


def _check(where: str, columns: list[str], first: tuple[str, int]) -> None:
    if len(columns) not in (2, 3):
        given = "one column" if len(columns) == 1 else f"{len(columns)} columns"
        raise UserError(f"{where}: has {given}; write one or two sentences and a label, separated by tabs")
    if len(columns) != first[1]:
        raise UserError(
            f"{where}: has {len(columns)} columns, but {first[0]} has {first[1]}; give all lines the same number"
        )
    if empty := [number for number, column in enumerate(columns, 1) if not column]:
        raise UserError(f"{where}: column {empty[0]} is empty; fill it in, or leave the line out")
