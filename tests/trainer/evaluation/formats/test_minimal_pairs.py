"""Minimal pairs are read as they are written, and a fault gives one line that says where it is."""

import re

import pytest

from schemas.errors import UserError
from trainer.evaluation.formats.minimal_pairs import read_minimal_pairs

HEADER = "\tsen\twrong_sen\tphenomenon\n"


def test_pairs_are_read_as_written(tmp_path):
    first, second = tmp_path / "a.tsv", tmp_path / "b.tsv"
    first.write_text(HEADER + '0\tShe "sings.\tShe "sing.\tSV-#\n' + "1\ta\u2028b\tc \t\n\n", newline="")
    second.write_bytes("\ufeffwrong_sen\tsen\r\nfalsch\trichtig\r\n".encode())
    assert read_minimal_pairs([str(first), str(second)]) == [
        ('She "sings.', 'She "sing.'), ("a\u2028b", "c "), ("richtig", "falsch")
    ]  # fmt: skip


def test_a_file_of_pandas_is_read(tmp_path):
    (tmp_path / "a.tsv").write_text('sen\twrong_sen\n"She ""sings""."\t"She ""sing""."\n')
    assert read_minimal_pairs([str(tmp_path / "a.tsv")]) == [('She "sings".', 'She "sing".')]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "pairs.tsv: is empty"),
        (HEADER.encode(), "pairs.tsv: has only a header"),
        (b"sen\twrong\nx\ty\n", "pairs.tsv:1: has 0 columns `wrong_sen`"),
        (b"sen\tsen\twrong_sen\nx\ty\tz\n", "pairs.tsv:1: has 2 columns `sen`"),
        (b"sen\twrong_sen\na\tb\nc\n", "pairs.tsv:3: has 1 columns, but the header has 2"),
        (b"sen\twrong_sen\na\tb\n\nc\td\n", "pairs.tsv:3: has 1 columns, but the header has 2"),
        (b"sen\twrong_sen\n \tb\n", "pairs.tsv:2: `sen` is empty"),
        (b"sen\twrong_sen\na\t\nc\td\n", "pairs.tsv:2: `wrong_sen` is empty"),
        (b"sen\twrong_sen\na\tb\nc\t\xe9\xe8\nd\te\nf\tg\n", "pairs.tsv:3: is not UTF-8"),
    ],
)
def test_faults_name_the_file_and_the_line(tmp_path, content, message):
    (tmp_path / "pairs.tsv").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_minimal_pairs([str(tmp_path / "pairs.tsv")])
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match=r"none.tsv: there is no such file"):
        read_minimal_pairs([str(tmp_path / "none.tsv")])
