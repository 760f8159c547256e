"""A shard: which of its records are read, and what its files are called."""

import pytest

from tests.support.text_files import make_shards


@pytest.mark.parametrize("max_records", [1, 7, 33, 99, 100])
def test_the_records_that_are_read_are_evenly_spread_over_the_shards(max_records, tmp_path):
    path = tmp_path / "en.txt"
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    shards = make_shards(path, 64, max_records)
    assert len(shards) > 10
    read = [record.number for shard in shards for record in shard.read()]
    assert len(read) == max_records
    # One of each max_records-th part of the text.
    assert [number * max_records // 100 for number in read] == list(range(max_records))


def test_its_files_lie_by_language_and_teacher(tmp_path):
    path = tmp_path / "en.txt"
    path.write_text("a line\n")
    (shard,) = make_shards(path, 64)
    assert shard.path == "en/bert/000000.parquet" and shard.rejects_path == "_rejects/en/bert/000000.jsonl"
