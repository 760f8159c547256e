"""Sequences laid end to end, compared with plain lists of lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shard.flat_tokens import FlatTokens

SEQUENCES = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=6)


def flat(sequences: list[list[int]], with_words: bool) -> FlatTokens:
    ids = np.array([token for sequence in sequences for token in sequence], np.int32)
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    return FlatTokens(ids, lengths, ids.astype(np.int64) + 100 if with_words else None)


def nested(tokens: FlatTokens) -> list[list[int]]:
    starts = tokens.starts_N.tolist()
    if tokens.words_T is not None:
        assert (tokens.words_T == tokens.ids_T + 100).all()
    return [
        tokens.ids_T[start : start + length].tolist()
        for start, length in zip(starts, tokens.lengths_N.tolist(), strict=True)
    ]


@given(SEQUENCES, st.booleans(), st.data())
def test_take_and_repeat_are_those_of_lists(sequences, with_words, data):
    tokens = flat(sequences, with_words)
    assert nested(tokens) == sequences
    chosen = data.draw(st.lists(st.integers(0, len(sequences) - 1), max_size=8)) if sequences else []
    taken = tokens.take(np.array(chosen, np.int64))
    assert nested(taken) == [sequences[index] for index in chosen]
    assert nested(tokens.repeat(3)) == sequences * 3
    assert (taken.words_T is None) == (tokens.repeat(2).words_T is None) == (not with_words)
