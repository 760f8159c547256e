"""A sample of a language's text: from all parts of it, and of the requested size."""

import gzip
import json
import random
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.text.corpus import Corpus
from pipeline.text.sampling import sample_records
from schemas.corpus.files import find_files
from tests.support.counted import bytes_read, put
from tests.support.text_files import COMPRESS, corpus_of


def test_it_is_from_all_over_the_text(tmp_path):
    (tmp_path / "en.txt").write_text("".join(f"line {number:05d}\n" for number in range(10_000)))
    sample = sample_records(corpus_of(tmp_path, 500), 6_400, 2**20)
    numbers = [record.number // 11 for record in sample.records]
    assert numbers[0] == 0 and numbers[-1] > 9_800 and sorted(numbers) == numbers
    assert max(later - earlier for earlier, later in pairwise(numbers)) < 10_000 / 64 + 100
    # With the line feeds, which `bytes` does not count, the sample is full.
    assert 6_400 - len(numbers) <= sample.bytes <= 6_400 and sample.whole_bytes == 10 * len(numbers)
    assert sample.total == pytest.approx(10_000, rel=0.02)


@pytest.mark.parametrize("kind", ["gz", "parquet"])
def test_how_much_there_is_of_other_kinds(tmp_path, kind):
    lines = [f"line {number * 7919 % 10_007:05d} of some text" for number in range(20_000)]
    if kind == "gz":
        (tmp_path / "a.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    else:
        pq.write_table(pa.table({"text": lines}), tmp_path / "a.parquet", row_group_size=777)
    sample = sample_records(corpus_of(tmp_path, 500), 8_000, 2**20)
    assert 7_000 < sample.bytes <= 8_000
    # For compressed text the total is a guess.
    assert sample.total == pytest.approx(20_000, rel=0.05 if kind == "parquet" else 3)


def test_a_book_is_cut(tmp_path):
    (tmp_path / "en.txt").write_text("é" * 50_000 + "\n")
    sample = sample_records(corpus_of(tmp_path, 2**20), 1_000, 2**20)
    (record,) = sample.records
    assert set(record.text) == {"é"} and sample.bytes <= 2_000 and (sample.whole_bytes, sample.total) == (100_000, 1)


def test_a_text_that_is_smaller_is_taken_whole(tmp_path):
    (tmp_path / "en.txt").write_text("one\ntwo\nthree\n")
    sample = sample_records(corpus_of(tmp_path, 4), 2**20, 2**20)
    assert [record.text for record in sample.records] == ["one", "two", "three"] and sample.total == 3


@pytest.mark.parametrize(("length", "megabytes"), [(300, 2), (3_000, 12), (20_000, 50)])
def test_a_wrong_field_is_noticed_after_little(length, megabytes):
    """No record has text that would fill the sample, but enough records are read to say that all are rejected.

    Otherwise everything would be read almost twice: 118 MB.
    """
    line = json.dumps({"body": "x" * length}) + "\n"
    for number in range(8):
        put(f"wrong{length}/{number}.jsonl", (line * (2**23 // len(line))).encode())
    corpus = Corpus.of(find_files("en", [f"counted://wrong{length}"]), 2**22)
    bytes_read()
    sample = sample_records(corpus, 2**18, 2**20)
    assert {record.fault for record in sample.records} == {"no text in 'text'"} and len(sample.records) >= 200
    assert bytes_read() < megabytes * 1e6


@pytest.mark.parametrize("suffix", COMPRESS)
def test_of_a_compressed_file_only_the_beginning_is_read(suffix):
    source = random.Random(0)
    text = "\n".join("".join(source.choices("abcdefgh ", k=100)) for _ in range(200_000))
    corpus = Corpus.of(find_files("en", [put(f"sampled{suffix}/a{suffix}", COMPRESS[suffix](text.encode()))]), 2**22)
    bytes_read()
    sample = sample_records(corpus, 2**18, 2**20)
    assert len(sample.records) > 2000 and bytes_read() <= 2**19
