"""A shard: which of its records are read, and what its files are called."""

import gzip
from dataclasses import replace

import pytest

from pipeline.shard.shares import divide
from schemas.errors import UserError
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


@pytest.mark.parametrize("max_records", [None, 60])
@pytest.mark.parametrize("shard_bytes", [64, 2**20])
def test_teachers_divide_the_records_whatever_the_shards(shard_bytes, max_records, tmp_path):
    path = tmp_path / "en.txt"
    path.write_text("".join(f"line {number}\n" for number in range(100)))

    def read(size, share=None):
        return [record for shard in make_shards(path, size, max_records, share) for record in shard.read()]

    parts = [read(shard_bytes, share) for share in divide({"a": 0.7, "b": 0.3}, 0).values()]
    assert sorted(sum(parts, [])) == read(shard_bytes)
    assert 0.5 * len(read(64)) < len(parts[0]) < 0.9 * len(read(64))
    assert parts == [read(333, share) for share in divide({"a": 0.7, "b": 0.3}, 0).values()]


def test_a_file_that_changed_is_refused(tmp_path):
    path = tmp_path / "en.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n"))
    (shard,) = make_shards(path, 64, share=divide({"a": 0.5, "b": 0.5}, 0)["a"])
    part = replace(shard.part, end=shard.part.end + 20)
    path.write_bytes(gzip.compress(b"one\ntwo\nthree\nfour\n"))
    with pytest.raises(UserError, match="changed since the run began"):
        list(replace(shard, part=part).read())


def test_its_files_lie_by_language_and_teacher(tmp_path):
    path = tmp_path / "en.txt"
    path.write_text("a line\n")
    (shard,) = make_shards(path, 64)
    assert shard.path == "en/bert/000000.parquet" and shard.rejects_path == "_rejects/en/bert/000000.jsonl"
