"""Row groups are read as pyarrow reads them, one at a time, with one read of a file's footer."""

import pyarrow.parquet as pq
import pytest

import schemas.row_groups
from schemas.predictions import open_predictions
from schemas.row_groups import RowGroupReader, read_row_groups
from schemas.rows import ROW_SCHEMA


@pytest.fixture
def files(predictions):
    """The files with several row groups."""
    return [file for file in open_predictions(str(predictions)).files if len(file.record.row_groups) > 1]


@pytest.fixture
def footers(monkeypatch):
    """The URLs of the footers that are loaded, in order."""
    loaded = []
    load = schemas.row_groups.load_footer
    monkeypatch.setattr(schemas.row_groups, "load_footer", lambda url: loaded.append(url) or load(url))
    return loaded


@pytest.mark.parametrize("columns", [None, ["input_ids", "masked_positions"], ["example_id"]])
def test_rows_are_those_of_the_file(files, columns):
    for file in files:
        expected = pq.ParquetFile(file.url)
        tables = list(read_row_groups(file, columns))
        assert [len(table) for table in tables] == file.record.row_groups
        for group, table in enumerate(tables):
            assert table.column_names == (columns or ROW_SCHEMA.names)
            assert table.to_pydict() == expected.read_row_group(group, columns=columns).to_pydict()
            assert RowGroupReader(columns).read(file, group).equals(table)


def test_a_whole_file_needs_its_footer_once(files, footers):
    assert len(list(read_row_groups(files[0]))) > 1
    assert footers == [files[0].url]


def test_a_reader_remembers_the_last_footers_only_and_shares_them_with_no_other(files, footers):
    first, second = files[:2]
    reader = RowGroupReader(footers=1)
    for file in (first, first, second, first):
        reader.read(file, 0)
    assert footers == [first.url, second.url, first.url]
    RowGroupReader().read(first, 0)
    assert len(footers) == 4
