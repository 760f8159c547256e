"""Columns of TSV files: fields in quotes, headers, and which column has the labels."""

import re
from collections import Counter
from collections.abc import Sequence

from schemas.errors import UserError

# Names of a label's column in a header; no label is called so.
_NAMES = {"label", "labels", "gold_label", "tag", "tags", "ner_tag", "ner_tags", "upos"}
# Between the outer quotes at least one pair of quotes, and no single one.
_QUOTED = re.compile(r'"(?=[^"]*"")((?:[^"]|"")*)"')
# In shorter files a label may be on one line only by chance.
_FEWEST_LINES = 50


def fields_of(line: str) -> list[str]:
    r"""The fields of a line of TSV.

    Quotes are text, as in most data sets, except where a field cannot but be one of `to_csv(sep="\t")` of pandas: it begins
    and ends with a quote, and what lies between has quotes, all in pairs. Then the outer quotes are taken off, and the pairs
    are halved.

        "He said ""no""."     becomes     He said "no".
        "No", he said.        stays       "No", he said.
    """
    fields = line.split("\t")
    return [quoted[1].replace('""', '"') if (quoted := _QUOTED.fullmatch(field)) else field for field in fields]


def is_header(fields: Sequence[str]) -> bool:
    """Whether the last field is the name of a column of labels."""
    return len(fields) > 1 and fields[-1].strip().lower() in _NAMES


def is_label_first(fields: Sequence[str]) -> bool:
    """Whether the line is a header whose first column has the labels."""
    return fields[0].strip().lower() in _NAMES and not is_header(fields)


def check_labels(file: str, rows: Sequence[tuple[int, Sequence[str]]]) -> None:
    """Refuses a file whose first line is likely a header, or whose labels likely are not in the last column.

    Nothing is refused in files of few lines. A first line is taken for a header where its label is on no other line, each
    other label is on several, and its fields are of one or two words. Labels are taken to be first where most lines have
    different last fields, and at most half of them different first ones.

    Args:
      file: as messages name it.
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
            f"{file}:{number}: no other line has the label {label!r}, so this looks like a header; call its last column `label`, "
            "or move the line down if it is none"
        )
    firsts = len({fields[0] for _, fields in rows})
    if firsts <= len(rows) / 2 < len(labels):
        raise UserError(
            f"{file}: has {len(labels)} different values in the last column and {firsts} in the first; the label is expected "
            "last, so exchange the columns"
        )
