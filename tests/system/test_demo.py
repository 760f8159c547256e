"""The demo's own parts: its text is split by book, and its tokenizers work for teachers of each family."""

from collections import Counter

import pytest
from transformers import AutoTokenizer

from examples.demo.corpora import HELDOUT_BOOKS, clean, split_verses
from examples.demo.labels import sample_kinds
from examples.demo.tokenizers import FAMILIES, make_tokenizer
from pipeline.config import TeacherConfig
from pipeline.teachers.family import BYTE_LEVEL, SENTENCEPIECE, WORDPIECE
from pipeline.teachers.tokenizer import load_tokenizer
from tests.support import world


def test_no_heldout_verse_is_in_training():
    heldout = min(HELDOUT_BOOKS)
    verses = [
        (1, 1, "a  b"),
        (1, 1, "c"),
        (heldout, 1, "d"),
        (1, 2, "d"),
        (2, 1, "a b"),
        (heldout, 2, "e"),
        (3, 1, " "),
    ]
    assert split_verses(verses) == {"train": ["a b c"], "heldout": ["d", "e"]}


def test_each_kind_of_book_has_as_many_verses():
    rows = [(str(number), "letter" if number % 10 == 0 else "narrative") for number in range(200)]
    rows += [(str(number), "prophecy") for number in range(200, 230)]
    chosen = sample_kinds(rows, 15)
    assert Counter(kind for _, kind in chosen) == {"narrative": 15, "prophecy": 15, "letter": 15}
    assert [int(verse) for verse, _ in chosen] == sorted({int(verse) for verse, _ in chosen})
    assert chosen == sample_kinds(rows, 15) and chosen[0] in rows


def test_cleaning():
    assert clean("don`t \n  e\u0301") == "don't \u00e9"


@pytest.mark.parametrize(
    ("family", "expected"), [("wordpiece", WORDPIECE), ("unigram", SENTENCEPIECE), ("bpe", BYTE_LEVEL)]
)
def test_tokenizers_of_each_family(tmp_path, family, expected):
    assert set(FAMILIES) == {"wordpiece", "unigram", "bpe"}
    (tmp_path / "text.txt").write_text("\n".join(world.sentences("en", 100)))
    make_tokenizer(family, [tmp_path / "text.txt"], 300, tmp_path / "t")
    tokenizer = load_tokenizer("t", TeacherConfig(model=str(tmp_path / "t"), languages=["en"]))
    assert tokenizer.family == expected
    assert set(tokenizer.roles) == {"pad", "unknown", "start", "end", "mask"}


def test_a_tokenizer_with_other_settings_replaces_the_earlier_one(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(world.sentences("en", 100)))
    for size in (60, 80):
        make_tokenizer("wordpiece", [tmp_path / "text.txt"], size, tmp_path / "t")
        assert len(AutoTokenizer.from_pretrained(tmp_path / "t")) == size
