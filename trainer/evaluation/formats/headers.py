"""Headers of TSV files: known by their names, or recognised by labels that no other line has."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from schemas.errors import UserError
from trainer.evaluation.formats.columns import FEWEST_LINES, Row

# Header names of a label column; no label has such a name.
_LABELS = {"label", "labels", "gold_label", "tag", "tags", "ner_tag", "ner_tags", "upos"}
# Names of other columns in the headers of sentences. pandas leaves the name of its index empty.
_IDS = {"", "unnamed: 0", "id", "ids", "idx", "index", "guid", "uid", "pairid"}
_TEXTS = {"text", "text1", "text2", "text_a", "text_b", "sentence", "sentence1", "sentence2", "premise", "hypothesis"}
_NAME_IT = "call its last column `label`, or, if it is an example, write a header above it whose last column is `label`"
# Labels of IOB2, universal parts of speech, and the mark of words without a label.
_WORD_LABEL = re.compile(r"O|[BI]-.+|ADJ|ADP|ADV|AUX|CCONJ|DET|INTJ|NOUN|NUM|PART|PRON|PROPN|PUNCT|SCONJ|SYM|VERB|X|_")


def is_header(fields: Sequence[str]) -> bool:
    """Returns whether the last field is the name of a label column."""
    return len(fields) > 1 and fields[-1].strip().lower() in _LABELS


def check_header(file: str, fields: Sequence[str]) -> None:
    """Checks the first line of a file of sentences, if it is a header.

    Raises:
      UserError: the columns are not sentences and then a label, or the name of the label is not known.
    """
    names = [field.strip().lower() for field in fields]
    labels = [column for column, name in enumerate(names) if name in _LABELS]
    shown = f"{file}:1: looks like a header of the columns {', '.join(map(repr, fields))}"
    if labels:
        texts = [column for column, name in enumerate(names) if name not in _LABELS | _IDS]
        order = [*texts, labels[-1]]
        if texts and order != list(range(len(names))):
            printed = ", ".join(f"${column + 1}" for column in order)
            raise UserError(
                f"{shown}; give a sentence or two, and the label last, e.g. "
                f"`awk -F'\\t' -v OFS='\\t' '{{print {printed}}}' OLD > NEW`"
            )
    elif any(names[:-1]) and (_TEXTS | _IDS).issuperset(names[:-1]):
        raise UserError(f"{shown}; {_NAME_IT}")


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
                f"{file}:1: no other line has the label {fields[-1]!r}, so this looks like a header; {_NAME_IT}"
            )
