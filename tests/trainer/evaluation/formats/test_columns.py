"""Fields of TSV, compared with what the standard library writes."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UserError
from trainer.evaluation.formats.columns import fields_of
from trainer.evaluation.formats.labelled_words import read_sentences
from trainer.evaluation.formats.minimal_pairs import read_minimal_pairs
from trainer.evaluation.formats.sentences import read_labelled_texts

FIELD = st.text(st.sampled_from("a \"'"))


@given(st.lists(FIELD, min_size=1))
def test_fields_with_quotes_are_read_as_pandas_writes_them(fields):
    """pandas uses the standard library's writer, which quotes each field that contains quotes."""
    file = io.StringIO()
    csv.writer(file, delimiter="\t", lineterminator="\n").writerow([f"x{field}" for field in fields])
    assert fields_of(file.getvalue()[:-1]) == [f"x{field}" for field in fields]


def test_other_quotes_are_text():
    for field in ('"', '""', '"""', '"a"', '"a" b"', '"a"b"', '""a"', '"a""', '"a" "b"', 'a ""b""', '""a""'):
        assert fields_of(f"x\t{field}") == ["x", field]


@pytest.mark.parametrize(
    ("read", "first", "second"),
    [
        (read_labelled_texts, '"text"\t"label"', '"good film"\t1'),
        (read_labelled_texts, '"good film"\t"pos"', '"bad film"\t"neg"'),
        (read_sentences, '"token"\t"tag"', '"sea"\t"NOUN"'),
        (read_minimal_pairs, '"sen"\t"wrong_sen"', '"She sings."\t"She sing."'),
    ],
)
def test_a_file_with_all_columns_in_quotes_is_refused(tmp_path, read, first, second):
    (tmp_path / "a.tsv").write_text(f"{first}\n{second}\n")
    with pytest.raises(
        UserError, match="a.tsv:1: all columns are in quotes, which count as text; write the file without"
    ):
        read([str(tmp_path / "a.tsv")])
