"""Minimal pairs: TSV with a header that has the columns `sen` and `wrong_sen`, as in MultiBLiMP."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.errors import UserError
from schemas.secrets import without_secrets
from trainer.evaluation.formats.columns import check_quotes, fields_of
from trainer.evaluation.formats.lines import read_lines

RIGHT, WRONG = "sen", "wrong_sen"


class MinimalPair(NamedTuple):
    """Two sentences that differ in one point of grammar."""

    right: str
    wrong: str


def read_minimal_pairs(files: Sequence[str]) -> list[MinimalPair]:
    """Returns the pairs of some files, in their order. Ignores other columns. Quotes are as in `fields_of`.

    Raises:
      UserError: a file is missing, empty, not UTF-8, lacks a column, or has a line that is no pair.
    """
    return [pair for file in files for pair in _read(file)]


def _read(file: str) -> list[MinimalPair]:
    shown = without_secrets(file)
    content = read_lines(file)
    check_quotes(shown, content[0])
    header, *lines = map(fields_of, content)
    for column in (RIGHT, WRONG):
        if header.count(column) != 1:
            raise UserError(
                f"{shown}:1: has {header.count(column)} columns `{column}`; give a TSV file whose header names "
                f"`{RIGHT}` and `{WRONG}`"
            )
    if not lines:
        raise UserError(f"{shown}: has only a header; give a file with pairs, or leave it out")
    pairs = []
    for number, fields in enumerate(lines, 2):
        if len(fields) != len(header):
            raise UserError(
                f"{shown}:{number}: has {len(fields)} columns, but the header has {len(header)}; correct the line"
            )
        pair = MinimalPair(fields[header.index(RIGHT)], fields[header.index(WRONG)])
        for column, sentence in zip((RIGHT, WRONG), pair, strict=True):
            if not sentence.strip():
                raise UserError(f"{shown}:{number}: `{column}` is empty; give both sentences, or leave the line out")
        pairs.append(pair)
    return pairs
