"""Columns of TSV files: quoted fields, headers, and which column has the labels."""

import re
from collections import Counter
from collections.abc import Sequence

from schemas.errors import UserError

# Header names of a label column; no label has such a name.
_NAMES = {"label", "labels", "gold_label", "tag", "tags", "ner_tag", "ner_tags", "upos"}
# A quoted field with at least one doubled quote and no single one inside.
_QUOTED = re.compile(r'"(?=[^"]*"")((?:[^"]|"")*)"')
# In shorter files a label may occur only once by chance.
_FEWEST_LINES = 50


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


def is_header(fields: Sequence[str]) -> bool:
    """Returns whether the last field is the name of a label column."""
    return len(fields) > 1 and fields[-1].strip().lower() in _NAMES


def is_label_first(fields: Sequence[str]) -> bool:
    """Returns whether the line is a header whose first column has the labels."""
    return fields[0].strip().lower() in _NAMES and not is_header(fields)


def check_labels(file: str, rows: Sequence[tuple[int, Sequence[str]]]) -> None:
    """Rejects a file whose first line is likely a header, or whose labels are likely not in the last column.

    Short files are not checked. The first line counts as a header if no other line has its label, every other label is on
    several lines, and its fields have one or two words each. Labels count as first if there are more distinct last fields
    than half the number of lines, and at most that many distinct first fields.

    Args:
      file: its name in messages.
      rows: the file's examples, each with the number of its line.

    Raises:
      UserError: says what is expected.
    """
    if len(rows) <= _FEWEST_LINES:
        return
    (number, first), *_ = rows
    labels = Counter(fields[-1] for _, fields in rows)
    label = first[-1]
    if [one for one, count in labels.items() if count == 1] == [label] and all(
        len(field.split()) <= 2 for field in first
    ):
        raise UserError(
            f"{file}:{number}: no other line has the label {label!r}, so this looks like a header; if it is one, call its last column "
            "`label`, else move the line down"
        )
    firsts = len({fields[0] for _, fields in rows})
    if firsts <= len(rows) / 2 < len(labels):
        raise UserError(
            f"{file}: has {len(labels)} different values in the last column and {firsts} in the first; the label must be "
            "last, so swap the columns"
        )
