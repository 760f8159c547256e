"""Token identity: the rules of the table hold, and writing a token down loses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from pipeline.vocabulary.identity import (
    Identity,
    byte_alphabet,
    byte_level_identity,
    display,
    parse,
    sentencepiece_identity,
    wordpiece_identity,
)
from schemas.vocabulary import CONTINUATION, LITERAL, WORD


def byte_level(text: str) -> str:
    """`text` as the library itself writes it in byte-level BPE."""
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return "".join(piece for piece, _ in pieces)


@pytest.mark.parametrize(
    ("wordpiece", "sentencepiece", "text"),
    [
        ("the", "▁the", " the"),
        ("##ing", "ing", "ing"),
        ("##the", "the", "the"),
        (",", ",", ","),
        ("我", "我", "我"),
        ("река", "▁река", " река"),
        ("##ка", "ка", "ка"),
    ],
)
def test_one_token_in_three_families(wordpiece, sentencepiece, text):
    actual = {
        wordpiece_identity(wordpiece),
        sentencepiece_identity(sentencepiece),
        byte_level_identity(byte_level(text)),
    }
    assert len(actual) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (wordpiece_identity("the"), sentencepiece_identity("the")),
        (wordpiece_identity(","), sentencepiece_identity("▁,")),
        (wordpiece_identity(","), wordpiece_identity("##,")),
        (sentencepiece_identity("<0x41>"), sentencepiece_identity("A")),
        (sentencepiece_identity("▁"), sentencepiece_identity("▁▁")),
        (byte_level_identity(byte_level(" ")), byte_level_identity(byte_level("  "))),
    ],
)
def test_different_tokens_stay_apart(one, other):
    assert one != other


def test_the_rules_table():
    assert wordpiece_identity("##,") == Identity(LITERAL, b"##,")
    assert sentencepiece_identity("▁") == byte_level_identity(byte_level(" ")) == Identity(WORD, b"")
    assert sentencepiece_identity("▁▁") == byte_level_identity(byte_level("  ")) == Identity(WORD, b" ")
    assert (
        sentencepiece_identity("<0xE6>") == byte_level_identity(byte_level("我")[0]) == Identity(CONTINUATION, b"\xe6")
    )


def test_byte_alphabet_is_the_librarys():
    alphabet = byte_alphabet()
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    for text in ("".join(map(chr, range(0x20, 0x800))), "我ℝ", "😀"):
        assert bytes(alphabet[character] for character in byte_level(text)) == text.encode()


surfaces = st.one_of(
    st.binary(max_size=6),
    st.text(max_size=6).map(str.encode),
    st.sampled_from(["▁", "▁a", " a", "<0x41>", "<0x41><0x42>", "##a", "a▁"]).map(str.encode),
)


@given(st.sampled_from([WORD, CONTINUATION]), surfaces)
def test_display_is_invertible(kind, surface):
    identity = Identity(kind, surface)
    if surface:  # An empty continuation stands for nothing and no tokenizer has it.
        assert parse(kind, display(identity)) == identity


@given(st.text(min_size=1, max_size=8))
def test_byte_level_agrees_with_sentencepiece_on_whole_characters(text):
    if not any(character in text for character in " ▁") and not text.startswith("<0x"):
        assert byte_level_identity(byte_level(text)) == sentencepiece_identity(text)
        assert byte_level_identity(byte_level(" " + text)) == sentencepiece_identity("▁" + text)
