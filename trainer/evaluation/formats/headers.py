"""Headers of TSV files: known by their names, or recognised by labels that no other line has."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from schemas.errors import UserError
from trainer.evaluation.formats.columns import FEWEST_LINES, Row

# Header names of a label column; no label has such a name.
_NAMES = {"label", "labels", "gold_label", "tag", "tags", "ner_tag", "ner_tags", "upos"}
# Labels of IOB2, universal parts of speech, and the mark of words without a label.
_WORD_LABEL = re.compile(r"O|[BI]-.+|ADJ|ADP|ADV|AUX|CCONJ|DET|INTJ|NOUN|NUM|PART|PRON|PROPN|PUNCT|SCONJ|SYM|VERB|X|_")


def is_header(fields: Sequence[str]) -> bool:
    """Returns whether the last field is the name of a label column."""
    return len(fields) > 1 and fields[-1].strip().lower() in _NAMES


def is_label_first(fields: Sequence[str]) -> bool:
    """Returns whether the line is a header whose first column has the labels."""
    return fields[0].strip().lower() in _NAMES and not is_header(fields)


def check_first_lines(rows: Iterable[Row]) -> None:
    """Raises UserError if the first line of a file is likely a header whose name `is_header` does not know.

    This is so if no other line has its label, every other label of the file is on several lines, and its fields have one or
    two words each. Short files are not checked, nor are first lines with a label that is usual for words.

    Args:
      rows: those of all files of a task: a label that is rare in one file may be common in another.
    """
    first_lines: dict[str, Sequence[str]] = {}
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for file, line, fields in rows:
        if line == 1:
            first_lines[file] = fields
        else:
            labels[file][fields[-1]] += 1
    for file, fields in first_lines.items():
        if (
            labels[file].total() >= FEWEST_LINES
            and min(labels[file].values()) > 1
            and not _WORD_LABEL.fullmatch(fields[-1])
            and not any(fields[-1] in others for others in labels.values())
            and all(len(field.split()) <= 2 for field in fields)
        ):
            raise UserError(
                f"{file}:1: no other line has the label {fields[-1]!r}, so this looks like a header; call its last column "
                "`label`, or, if it is an example, write a header above it whose last column is `label`"
            )
