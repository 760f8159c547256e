"""Columns of TSV files: quoted fields, and which column has the labels."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from schemas.errors import UserError

# A quoted field with at least one doubled quote and no single one inside.
_QUOTED = re.compile(r'"(?=[^"]*"")((?:[^"]|"")*)"')
# In shorter files a label may occur only once by chance.
FEWEST_LINES = 50


class Row(NamedTuple):
    """A labelled line of a TSV file.

    Attributes:
      file: its name in messages.
      line: from 1.
      fields: the label is last.
    """

    file: str
    line: int
    fields: Sequence[str]


def fields_of(line: str) -> list[str]:
    r"""Returns the fields of a line of TSV.

    Quotes are text, as in most data sets, unless a field can only come from pandas' `to_csv(sep="\t")`: it begins and ends
    with a quote, and it has quotes in between, all of them doubled. Then the outer quotes are removed, and each doubled
    quote becomes one.

        "He said ""no""."     becomes     He said "no".
        "No", he said.        stays       "No", he said.
    """
    fields = line.split("\t")
    return [quoted[1].replace('""', '"') if (quoted := _QUOTED.fullmatch(field)) else field for field in fields]


def check_quotes(file: str, first_line: str) -> None:
    """Raises UserError if all columns of a file's first line are in quotes: those of labels and names are never text."""
    fields = first_line.split("\t")
    if len(fields) > 1 and all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields):
        raise UserError(
            f"{file}:1: all columns are in quotes, which count as text; write the file without them, e.g. with `quote=FALSE` "
            "in R, or `quoting=csv.QUOTE_MINIMAL` in Python"
        )


def check_label_column(file: str, rows: Sequence[Sequence[str]]) -> None:
    """Raises UserError if the labels of a file are likely not in the last column. Short files are not checked.

    They count as in the first one if there are more distinct last fields than half the number of lines, and at most that
    many distinct first fields.
    """
    firsts, lasts = ({fields[column] for fields in rows} for column in (0, -1))
    if len(rows) > FEWEST_LINES and len(firsts) <= len(rows) / 2 < len(lasts):
        raise UserError(
            f"{file}: has {len(lasts)} different values in the last column and {len(firsts)} in the first; the label must "
            "be last, so swap the columns"
        )
