"""Texts as pieces: cut at words, framed, and counted."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from tests.support import world
from trainer.evaluation.pieces import cut, make_pieces, special_frame
from trainer.evaluation.words import words_of_characters


@pytest.fixture(scope="module")
def tokenizers():
    return {
        family: world.make_tokenizer(family, world.sentences(language, 300))
        for language, family in (("en", "wordpiece"), ("ru", "unigram"), ("hi", "bpe"))
    }


@given(st.lists(st.integers(1, 12), max_size=12), st.integers(3, 20))
def test_cuts_are_the_fewest_and_the_longest_piece_is_the_shortest(lengths, room):
    pieces = cut(lengths, room)
    assert sum(map(sum, pieces)) == sum(lengths)
    assert all(0 < sum(piece) <= room for piece in pieces)
    if max(lengths, default=0) > room:
        return
    assert list(itertools.chain(*pieces)) == lengths
    # All possible cuts.
    ways = [
        [sum(lengths[a:b]) for a, b in itertools.pairwise([0, *cuts, len(lengths)])]
        for count in range(len(pieces))
        for cuts in itertools.combinations(range(1, len(lengths)), count)
    ]
    fitting = [way for way in ways if max(way) <= room]
    assert min(map(len, fitting), default=0) == len(pieces)
    if pieces:
        best = min(max(way) for way in fitting if len(way) == len(pieces))
        assert max(map(sum, pieces)) == best


def test_a_word_longer_than_a_piece_is_cut():
    assert cut([2, 7, 1], 3) == [[2], [3], [3], [1, 1]]


@pytest.mark.parametrize("family", ["wordpiece", "unigram", "bpe"])
def test_pieces_are_framed_and_hold_all_tokens(tokenizers, family):
    tokenizer = tokenizers[family]
    texts = [
        *world.sentences("en", 20),
        "",
        *world.sentences("hi", 20),
        "東京の川 " * 9,
        "river" * 30,
        "[MASK] <mask> x",
    ]
    pieces = make_pieces(texts, tokenizer, 16)
    prefix, suffix = special_frame(tokenizer)
    assert (pieces.lengths_P <= 16).all()
    ends_P = np.cumsum(pieces.lengths_P)
    for number, text in enumerate(texts):
        inner = []
        for end, length in zip(ends_P[pieces.text_P == number], pieces.lengths_P[pieces.text_P == number], strict=True):
            ids, word_ends = pieces.ids_T[end - length : end], pieces.word_ends_T[end - length : end]
            assert ids[0] == prefix[0] and ids[-1] == suffix[0]
            assert word_ends[0] == word_ends[-1] == 0
            # A word ends at its last token, and words do not interleave.
            assert (word_ends[1:-1] > np.arange(1, length - 1)).all() and (np.diff(word_ends[1:-1]) >= 0).all()
            assert word_ends[-2] == length - 1
            inner += ids[1:-1].tolist()
        assert inner == tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        # In SentencePiece's vocabulary, unlike the others, special tokens are ordinary pieces.
        assert family == "unigram" or tokenizer.mask_token_id not in inner


def test_pieces_end_where_words_do(tokenizers):
    text = world.sentences("en", 1)[0] + " remembers" * 20
    tokenizer = tokenizers["wordpiece"]
    pieces = make_pieces([text], tokenizer, 12)
    starts = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    begins = np.cumsum(pieces.lengths_P - 2)[:-1]
    assert len(begins) > 2
    words = words_of_characters(text)
    assert all(words[starts[at][0]] != words[starts[at - 1][0]] for at in begins)


def test_characters_are_counted_in_nfc_with_white_space(tokenizers):
    pieces = make_pieces(["е\u0308лка и 東京\n", "река"], tokenizers["unigram"], 16)
    assert pieces.characters_N.tolist() == [10, 4]
    assert pieces.unknown_N.tolist() == [2, 0]
    assert make_pieces(["東京 a"], tokenizers["bpe"], 16).unknown_N.tolist() == [0]


def test_changed_characters_are_those_that_the_tokens_do_not_decode_to():
    tokenizer = world.make_tokenizer("wordpiece", [line.lower() for line in world.sentences("en", 300)])
    texts = ["The river, it's a SONG.", "the river, it's a song."]
    assert make_pieces(texts, tokenizer, 64).changed_N.tolist() == [0, 0]
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    assert make_pieces(texts, tokenizer, 64).changed_N.tolist() == [5, 0]
