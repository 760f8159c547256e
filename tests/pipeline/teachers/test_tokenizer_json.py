"""Entries that the pipeline adds to `tokenizer.json` and that no text produces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.teachers.tokenizer_json import is_filler, merged_piece, unreachable
from tests.support import world


@given(st.integers(0, 2**31), st.text(max_size=20))
def test_fillers_are_told_from_tokens(merged_id, token):
    assert is_filler(unreachable(merged_id))
    assert not is_filler(token) or token.startswith("\uffff ")


@pytest.mark.parametrize("family", ["wordpiece", "unigram", "bpe"])
def test_no_text_gives_a_filler(family):
    """Not even the filler's own text does, or words with U+FFFF."""
    tokenizer = world.make_tokenizer(family, world.sentences("en", 50))
    for text in (unreachable(7), f"a {unreachable(7)} b", "\uffff\uffff 7"):
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        assert not any(is_filler(token) for token in tokens)


def test_merged_pieces():
    assert merged_piece({}, "un", "able") == "unable"
    assert merged_piece({"continuing_subword_prefix": "##"}, "un", "##able") == "unable"
    assert merged_piece({"continuing_subword_prefix": None}, "##a", "##b") == "##a##b"
