"""Units of work: which records each unit reads, and how they are cut into shards."""

import bz2
import gzip
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import PipelineConfig
from pipeline.engine.tasks import in_threads
from pipeline.text import corpus as corpus_module
from pipeline.text.survey import find_text, survey_text
from pipeline.text.units import TeacherText, Unit
from schemas.errors import UserError

LINES = [f"line {number} {'x' * (number % 37)}" for number in range(400)]


def texts(folder, output, languages: Sequence = ("en",), **changes) -> list[TeacherText]:
    """What each teacher reads of a folder."""
    teachers = {
        f"t{n}": {"model": "m", "languages": part}
        for n, part in enumerate([languages] if isinstance(languages, tuple) else languages)
    }
    teachers = {
        name: teacher
        | {"languages": list(teacher["languages"]) if isinstance(teacher["languages"], tuple) else teacher["languages"]}
        for name, teacher in teachers.items()
    }
    section = {"files": [str(folder)], "max_records": changes.pop("max_records", None)}
    config = PipelineConfig(output=str(output), teachers=teachers, text={"en": section}, **changes)
    corpora = survey_text(config, find_text(config), in_threads)
    return [TeacherText.of("en", name, corpora["en"], config) for name in config.teachers]


def read(text: TeacherText) -> list:
    return [record for unit in text.units for shard in text.shards(unit.number) for record in shard.records]


def write(path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def folder(tmp_path):
    """Files of every kind, large and small."""
    folder = tmp_path / "text"
    folder.mkdir()
    write(folder / "a.txt", LINES)
    for number in range(30):
        write(folder / f"b{number:02d}.txt", LINES[number : number + 2])
    (folder / "c.gz").write_bytes(gzip.compress("\n".join(LINES).encode()))
    (folder / "d.bz2").write_bytes(bz2.compress("\n".join(LINES[:50]).encode()))
    pq.write_table(pa.table({"text": LINES}), folder / "e.parquet", row_group_size=70)
    (folder / "f.txt").write_bytes(b"")
    return folder


@pytest.mark.parametrize("shard_bytes", [100, 1000, 2**20])
@pytest.mark.parametrize("most_shards", [1, 3])
def test_every_record_is_read_once_whatever_the_shards(shard_bytes, most_shards, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "MOST_SHARDS", most_shards)
    (text,) = texts(folder, tmp_path / "p", shard_bytes=shard_bytes)
    actual = read(text)
    assert len(actual) == len(set(actual)) == 400 + 60 + 400 + 50 + 400
    shards = [shard for unit in text.units for shard in text.shards(unit.number)]
    assert len({shard.path for shard in shards}) == len(shards)
    longest = max(map(len, LINES)) + 1
    sizes = [sum(len(record.text) + 1 for record in shard.records) for shard in shards]
    assert all(0 < size < shard_bytes + longest for size in sizes)
    if shard_bytes == 2**20:
        assert len(shards) == 1
    (other,) = texts(folder, tmp_path / "p", shard_bytes=333)
    assert set(read(other)) == set(actual)


@pytest.mark.parametrize("max_records", [1, 7, 33, 99, 1309, 1310, 5000])
@pytest.mark.parametrize("shard_bytes", [64, 2**20])
def test_the_records_that_are_read_are_evenly_spread(max_records, shard_bytes, folder, tmp_path):
    (all_of_it,) = texts(folder, tmp_path / "p", shard_bytes=2**20)
    everything = read(all_of_it)
    (text,) = texts(folder, tmp_path / "p", max_records=max_records, shard_bytes=shard_bytes)
    taken = sorted(everything.index(record) for record in read(text))
    # One from each of `max_records` equal parts of the text.
    count = min(max_records, 1310)
    assert [number * count // 1310 for number in taken] == list(range(count))


@pytest.mark.parametrize("max_records", [None, 600])
@pytest.mark.parametrize("shard_bytes", [64, 2**20])
def test_teachers_divide_the_records_whatever_the_shards(shard_bytes, max_records, folder, tmp_path):
    shares = [{"en": 0.7}, {"en": 0.3}]
    divided = [
        read(text) for text in texts(folder, tmp_path / "p", shares, max_records=max_records, shard_bytes=shard_bytes)
    ]
    (whole,) = texts(folder, tmp_path / "p", max_records=max_records)
    assert sorted(sum(divided, [])) == sorted(read(whole))
    assert 0.6 < len(divided[0]) / sum(map(len, divided)) < 0.8
    again = [read(text) for text in texts(folder, tmp_path / "p", shares, max_records=max_records, shard_bytes=333)]
    assert list(map(sorted, divided)) == list(map(sorted, again))


def test_a_sparse_sample_has_few_units(folder, tmp_path):
    (whole,) = texts(folder, tmp_path / "p", shard_bytes=64)
    (sparse,) = texts(folder, tmp_path / "p", shard_bytes=64, max_records=10)
    assert len(sparse.units) < 32 < len(whole.units)


def test_audited_rows_are_spread_over_the_units(folder, tmp_path):
    (text,) = texts(folder, tmp_path / "p", shard_bytes=100, audit_rows=7)
    rows = [shard.audit_rows for unit in text.units for shard in text.shards(unit.number)]
    assert sum(rows) == 7 and max(rows) == 1


def test_names(folder, tmp_path):
    (text,) = texts(folder, tmp_path / "p")
    (unit,) = text.units
    assert unit == Unit("en", "t0", 0) and unit.path == "_units/en/t0/000000.arrow"
    (shard,) = text.shards(0)
    assert shard.path == "en/t0/000000000000.parquet" and shard.rejects_path == "_rejects/en/t0/000000000000.jsonl"


def test_a_large_compressed_file_is_shared_out(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "MOST_SHARDS", 1)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.gz").write_bytes(gzip.compress("\n".join(LINES).encode(), 0))
    (text,) = texts(tmp_path / "text", tmp_path / "p", shard_bytes=500)
    units = [[shard.records for shard in text.shards(unit.number)] for unit in text.units]
    assert len([unit for unit in units if unit]) == 16 and all(len(unit) < 4 for unit in units)
    assert sorted(record.text for unit in units for shard in unit for record in shard) == sorted(LINES)


def test_a_file_that_changes_is_refused_after_the_shards_before(tmp_path):
    write(tmp_path / "a.txt", LINES)
    (text,) = texts(tmp_path / "a.txt", tmp_path / "p", shard_bytes=500)
    shards = text.shards(0)
    next(shards)
    write(tmp_path / "a.txt", LINES[::-1])
    with pytest.raises(UserError, match="changed since the run began"):
        list(text.shards(1))
