"""The files of a language laid end to end: the units read every record once, whatever the files' sizes."""

import gzip
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text import corpus as corpus_module
from pipeline.text.corpus import Corpus
from schemas.corpus.files import TextFile
from schemas.corpus.ranges import TextRange
from schemas.corpus.records import count_records, read_records
from tests.support.text_files import corpus_of

KINDS = st.sampled_from([".txt", ".txt.gz", ".parquet"])
SIZES = st.integers(0, 4000)


def made_up(sizes: list[int], kinds: list[str]) -> list[TextFile]:
    return [
        TextFile(f"/x/{n}{kind}", f"{n}{kind}", "text", size)
        for n, (size, kind) in enumerate(zip(sizes, kinds, strict=False))
    ]


@given(st.lists(st.tuples(SIZES, KINDS), min_size=1, max_size=12), st.integers(1, 300), st.integers(1, 5))
def test_units_cover_every_file_once(files, shard_bytes, joined):
    corpus = Corpus.of(made_up(*map(list, zip(*files, strict=True))), shard_bytes).joined(joined)
    pieces = [piece for unit in range(corpus.units) for piece in corpus.pieces(unit)]
    for file in corpus.files:
        of_file = [piece for piece in pieces if piece.part.file == file]
        if not file.size:
            assert not of_file
        elif file.codec:
            readers = {piece.readers for piece in of_file}
            assert readers == {len(of_file)} and len(of_file) <= 16
            assert [piece.reader for piece in of_file] == list(range(len(of_file)))
        else:
            edges = [piece.part.start for piece in of_file] + [file.size]
            assert edges[0] == 0 and [piece.part.end for piece in of_file] == edges[1:]
    for index, file in enumerate(corpus.files):
        if file.size and not file.codec:
            assert corpus.ranges(index) == [piece.part for piece in pieces if piece.part.file == file]


@given(st.lists(st.tuples(SIZES, KINDS), min_size=1, max_size=8), st.lists(st.integers(0, 20_000), max_size=9))
def test_intervals_cover_every_file_once(files, cuts):
    corpus = Corpus.of(made_up(*map(list, zip(*files, strict=True))), 100)
    edges = [0, *sorted(cut for cut in cuts if cut < corpus.size), corpus.size]
    parts = [part for low, high in pairwise(edges) for part in corpus.interval(low, high)]
    for file in corpus.files:
        of_file = [part for part in parts if part.file == file]
        assert sum(part.size for part in of_file) == file.size
        assert file.source.endswith(".txt") or len(of_file) == (file.size > 0)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=5), st.integers(1, 60), st.integers(1, 4))
def test_counts_say_which_record_comes_first(tmp_path_factory, counts, shard_bytes, joined):
    folder = tmp_path_factory.mktemp("text")
    for number, count in enumerate(counts):
        content = "".join(f"{number} {line}\n" for line in range(count)).encode()
        name, content = (f"{number}.gz", gzip.compress(content)) if number % 3 == 2 else (f"{number}.txt", content)
        (folder / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "MOST_SHARDS", 2)
        corpus = corpus_of(folder, shard_bytes)
    counted = [list(count_records(corpus.ranges(index))) for index in range(len(corpus.files))]
    corpus = corpus.surveyed([""] * len(counts), counted).joined(joined)
    assert corpus.records == sum(counts)
    everything = [tuple(record) for file in corpus.files for record in read_records(TextRange.whole(file))]
    for unit in range(corpus.units):
        for piece in corpus.pieces(unit):
            for number, record in enumerate(read_records(piece.part), piece.first):
                assert everything[number] == record


def test_small_files_are_read_together_and_large_ones_in_parts():
    small = made_up([100] * 5000, [".txt"] * 5000)
    assert Corpus.of(small, 2**20).units == 1
    assert len(Corpus.of(small, 2**20).pieces(0)) == 5000
    large = Corpus.of(made_up([10 * 2**40], [".txt"]), 2**22)
    assert large.unit_bytes == 64 * 2**22 and large.units == 10 * 2**40 // large.unit_bytes
    assert len(large.pieces(12_345)) == 1
