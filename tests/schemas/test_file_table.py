"""The list of a folder's files."""

import hashlib
import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.file_table import FILE_SCHEMA, FileRecord, FileTable

COUNTS = st.integers(0, 2**40)


@st.composite
def records(draw) -> list[FileRecord]:
    result = []
    for number in range(draw(st.integers(0, 8))):
        language, teacher = draw(st.sampled_from(["en", "zh-Hant"])), draw(st.sampled_from(["bert", "x.l_m"]))
        groups = draw(st.lists(st.integers(0, 2**20), max_size=3))
        tokens = sum(groups) + draw(COUNTS)
        result.append(
            FileRecord(
                path=f"{language}/{teacher}/{number:06d}.parquet",
                language=language,
                teacher=teacher,
                rows=sum(groups),
                row_groups=groups,
                tokens=tokens,
                masked_positions=draw(st.integers(0, tokens)),
                size=draw(COUNTS),
                footer_sha256=draw(st.text("0123456789abcdef", max_size=64)),
            )
        )
    return result


@settings(deadline=None)
@given(records())
def test_it_gives_back_what_it_was_made_of(given_records):
    table = FileTable.of(given_records)
    again = FileTable.from_parquet(table.content)
    assert list(again) == given_records == again[:] and again == table
    assert again.sha256 == table.sha256
    for name in ("rows", "tokens", "masked_positions", "size"):
        assert again.counts(name).tolist() == [getattr(record, name) for record in given_records]
    rows_G, groups_F = again.row_groups
    assert [part.tolist() for part in np.split(rows_G, np.cumsum(groups_F))[:-1]] == [
        record.row_groups for record in given_records
    ]
    for name in ("language", "teacher"):
        names, number_F = again.names(name)
        assert [names[number] for number in number_F] == [getattr(record, name) for record in given_records]
    rows: dict[tuple[str, str], int] = {}
    for record in given_records:
        key = record.language, record.teacher
        rows[key] = rows.get(key, 0) + record.rows
    assert again.rows_by_pair() == rows
    assert list(again.sizes()) == [(record.path, record.size) for record in given_records]


@settings(deadline=None)
@given(records(), st.lists(st.integers(0, 8), max_size=4))
def test_pieces_joined_are_the_whole_with_its_bytes(given_records, cuts):
    whole = FileTable.of(given_records)
    cuts = sorted(min(cut, len(given_records)) for cut in cuts)
    pieces = [
        FileTable.from_parquet(FileTable.of(given_records[start:stop]).content)
        for start, stop in zip([0, *cuts], [*cuts, len(given_records)], strict=True)
    ]
    joined = FileTable.joined(pieces)
    assert joined == whole and joined.content == whole.content
    if given_records:
        with pytest.raises(ValueError, match=f"^files: {given_records[0].path}: listed twice$"):
            FileTable.joined([whole, whole])


@pytest.mark.parametrize("is_inline", [False, True])
def test_a_process_sends_it_in_a_third_of_its_bytes(is_inline):
    """A trainer's first process reads a list of hundreds of thousands of files and sends it to the others."""
    columns = {"language": "en", "teacher": "bert", "rows": 7, "row_groups": [3, 4], "tokens": 70}
    columns |= {"masked_positions": 9, "size": 1000, "footer_sha256": hashlib.sha256(b"").hexdigest()}
    table = pa.Table.from_pylist([{"path": f"en/bert/{n:06d}.parquet", **columns} for n in range(5000)], FILE_SCHEMA)
    files = FileTable(table, is_inline)
    sent = pickle.dumps(files)
    assert len(sent) < table.nbytes / 3
    again = pickle.loads(sent)
    assert again == files and again.is_inline == is_inline and again.content == files.content


GOOD = FileRecord(
    path="en/bert/000000.parquet", language="en", teacher="bert", rows=5, row_groups=[3, 2], tokens=50,
    masked_positions=7, size=999, footer_sha256="f0",
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "../en/bert/000000.parquet"}, "is not language/teacher/NUMBER.parquet"),
        ({"path": "en/bert/x.parquet"}, "is not language/teacher/NUMBER.parquet"),
        ({"path": "en/bert/1.parquet\n"}, "is not language/teacher/NUMBER.parquet"),
        ({"path": "fr/bert/000001.parquet"}, "is not language/teacher/NUMBER.parquet"),
        ({"path": "../bert/1.parquet", "language": ".."}, "'..' cannot be the name of a language"),
        ({"rows": 4}, "rows is not the sum of its row groups"),
        ({"rows": -1, "row_groups": [-1]}, "a count is negative"),
        ({"rows": 5, "row_groups": [6, -1]}, "a count is negative"),
        ({"size": -1}, "a count is negative"),
        ({"tokens": 4}, "more rows or masked positions than tokens"),
        ({"masked_positions": 51}, "more rows or masked positions than tokens"),
        ({}, "files: en/bert/000000.parquet: listed twice"),
    ],
)
def test_records_that_contradict_themselves_are_refused(changes, message):
    wrong = GOOD.model_copy(update=changes)
    with pytest.raises(ValueError, match=message) as refusal:
        FileTable.of([GOOD, wrong])
    assert "\n" not in repr(str(refusal.value)).replace("\\n", "")


def test_other_files_are_refused():
    whole = FileTable.of([GOOD]).content
    other = io.BytesIO()
    pq.write_table(pa.table({"path": ["en/bert/000000.parquet"]}), other)
    nullable = pa.schema([field.with_nullable(True) for field in FILE_SCHEMA])
    null = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([GOOD.model_dump() | {"size": None}], nullable), null)
    for content in (b"", b"PAR1", whole[:-9], whole[: len(whole) // 2], other.getvalue(), null.getvalue()):
        with pytest.raises(
            ValueError, match="not a complete Parquet file|does not have the columns of a list of files"
        ):
            FileTable.from_parquet(content)
