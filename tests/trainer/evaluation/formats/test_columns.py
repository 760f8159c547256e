"""Fields of TSV, compared with what the standard library writes."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.formats.columns import fields_of

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
