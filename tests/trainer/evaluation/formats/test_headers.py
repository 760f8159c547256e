"""Headers whose names are not known are recognised by their labels."""

import pytest

from schemas.errors import UserError
from trainer.evaluation.formats.columns import Row
from trainer.evaluation.formats.headers import check_first_lines


def rows(*lines: str, file: str = "a.tsv") -> list[Row]:
    return [Row(file, number, line.split("\t")) for number, line in enumerate(lines, 1)]


LINES = ["so good\t1", "so bad\t0"] * 30


@pytest.mark.parametrize("header", ["Wort\tKlasse", "text\tGold class", "first\tsecond\tsentiment"])
def test_what_looks_like_a_header_is_refused(header):
    """Another file with the same header shows nothing."""
    label = header.split("\t")[-1]
    message = f"a.tsv:1: no other line has the label '{label}', so this looks like a header; .*write a header above it"
    with pytest.raises(UserError, match=message):
        check_first_lines([*rows(header, *LINES), *rows(header, *LINES, file="b.tsv")])


@pytest.mark.parametrize(
    "first",
    [
        *("O", "_", "B-ORG", "I-ORG", "INTJ", "PROPN", "X"),
        # Another file has it.
        "rare",
    ],
)
def test_a_first_label_that_is_usual_or_in_another_file_is_no_header(first):
    check_first_lines([*rows(f"Google\t{first}", *LINES), *rows("x\t1", "y\trare", file="b.tsv")])


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["fine\t2", *LINES[:40]], id="short file"),
        pytest.param(["fine\t2", *LINES, "so so\t3"], id="other rare labels"),
        pytest.param(["what a thing\t2", *LINES], id="sentence"),
        pytest.param(["", "fine\t2", *LINES], id="below a header"),
    ],
)
def test_a_first_line_with_a_rare_label_is_an_example(lines):
    check_first_lines(row for row in rows(*lines) if row.fields != [""])
