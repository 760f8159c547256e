"""A sample of a language's text: from all over it, and of the size that is asked for."""

from itertools import pairwise

from pipeline.job.sampling import sample_records
from tests.support.text_files import make_shards


def test_it_is_from_all_over_the_text(tmp_path):
    path = tmp_path / "en.txt"
    path.write_text("".join(f"line {number:05d}\n" for number in range(10_000)))
    shards = make_shards(path, 500)
    assert len(shards) > 200
    sample = sample_records(shards, 6_400)
    numbers = [record.number for record in sample.records]
    assert numbers[0] == 0 and numbers[-1] > 9_900 and sorted(numbers) == numbers
    assert max(later - earlier for earlier, later in pairwise(numbers)) < 10_000 / 64 + 100
    # With the line feeds, which it leaves out, it is full.
    assert 6_400 - len(numbers) <= sample.bytes <= 6_400 and sample.whole_bytes == 10 * len(numbers)


def test_a_book_is_cut(tmp_path):
    path = tmp_path / "en.txt"
    path.write_text("é" * 50_000 + "\n")
    sample = sample_records(make_shards(path, 2**20), 1_000)
    (record,) = sample.records
    assert record.text == "é" * 1_000 and (sample.bytes, sample.whole_bytes) == (2_000, 100_000)


def test_a_text_that_is_smaller_is_taken_whole(tmp_path):
    path = tmp_path / "en.txt"
    path.write_text("one\ntwo\nthree\n")
    assert [record.text for record in sample_records(make_shards(path, 4), 2**20).records] == ["one", "two", "three"]
