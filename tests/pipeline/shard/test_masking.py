"""Masking: its statistics are right, and a row's mask depends on the row alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipeline.config import MaskingConfig
from pipeline.shard.flat_tokens import FlatTokens
from pipeline.shard.masking import MaskingVocabulary, example_key, mask_tokens, uniform
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import outputs, world
from tests.support.text_files import line_places

SPECIAL = np.array([0, 1, 2, 3, 4], np.int32)
ORDINARY = np.arange(5, 50, dtype=np.int32)
MASK = 4


def rows(count: int, low: int, high: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(token ids, lengths, keys): rows framed by special tokens."""
    random = np.random.default_rng(seed)
    parts = [np.concatenate([[2], random.integers(5, 50, random.integers(low, high + 1)), [3]]) for _ in range(count)]
    keys = np.array([example_key(seed, str(i)) for i in range(count)], np.uint64)
    return np.concatenate(parts).astype(np.int32), np.array([len(part) for part in parts]), keys


def mask(tokens, lengths, keys, words=None, **config):
    vocabulary = MaskingVocabulary(SPECIAL, ORDINARY, MASK)
    return mask_tokens(FlatTokens(tokens, lengths, words), keys, vocabulary, MaskingConfig(**config))


def within(share: float, expected: float, samples: int) -> bool:
    """Whether a share is within five standard deviations of a binomial's expectation."""
    return abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / samples)


def test_statistics():
    tokens, lengths, keys = rows(4000, 3, 60)
    masked = mask(tokens, lengths, keys)
    ordinary = (~np.isin(tokens, SPECIAL)).sum()
    # Rows that would have no target get one. This adds a little, which can be computed exactly.
    sizes = lengths - 2
    expected = np.maximum(sizes * 0.15, 1).sum() / ordinary
    assert within(len(masked.targets_M) / ordinary, expected, ordinary)
    new, old = masked.input_ids_T[masked.targets_M], masked.labels_M
    count = len(masked.targets_M)
    assert within((new == MASK).mean(), 0.8, count)
    # One random token in 45 is the original one.
    assert within((new == old).mean(), 0.1 + 0.1 / len(ORDINARY), count)
    replaced = new[(new != MASK) & (new != old)]
    assert not np.isin(replaced, SPECIAL).any()
    assert set(replaced) == set(ORDINARY)


def test_every_place_is_equally_likely():
    tokens, lengths, keys = rows(6000, 20, 20)
    masked = mask(tokens, lengths, keys)
    places = np.bincount(masked.targets_M % 22, minlength=22)
    assert places[0] == places[21] == 0
    assert all(within(count / 6000, 0.15, 6000) for count in places[1:21])


def test_only_targets_change_and_labels_are_the_originals():
    tokens, lengths, keys = rows(200, 1, 40)
    masked = mask(tokens, lengths, keys, mlm_probability=0.3)
    assert (masked.labels_M == tokens[masked.targets_M]).all()
    assert not np.isin(masked.labels_M, SPECIAL).any()
    untouched = np.setdiff1d(np.arange(len(tokens)), masked.targets_M)
    assert (masked.input_ids_T[untouched] == tokens[untouched]).all()
    assert (np.diff(masked.targets_M) > 0).all()


def test_every_row_with_an_ordinary_token_has_a_target():
    tokens, lengths, keys = rows(300, 1, 3)
    masked = mask(tokens, lengths, keys, mlm_probability=0.01)
    assert len(masked.targets_M) == 300
    only_special = mask(np.array([2, 3], np.int32), np.array([2]), keys[:1])
    assert len(only_special.targets_M) == 0


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32), st.data())
def test_a_row_is_masked_alike_in_any_company(count, seed, data):
    tokens, lengths, keys = rows(count, 1, 30, seed)
    whole = mask(tokens, lengths, keys)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    first, last = lengths[:start].sum(), lengths[:stop].sum()
    part = mask(tokens[first:last], lengths[start:stop], keys[start:stop])
    inside = (whole.targets_M >= first) & (whole.targets_M < last)
    assert (part.input_ids_T == whole.input_ids_T[first:last]).all()
    assert (part.targets_M == whole.targets_M[inside] - first).all()


def test_whole_words_keep_the_rate():
    """Words of 1 to 4 tokens are chosen whole and at the masking rate, which gives as many tokens as without words."""
    tokens, lengths, keys = rows(3000, 30, 60, seed=1)
    random = np.random.default_rng(2)
    words = np.repeat(np.arange(len(tokens)), random.integers(1, 5, len(tokens)))[: len(tokens)]
    masked = mask(tokens, lengths, keys, words)
    is_target = np.zeros(len(tokens), bool)
    is_target[masked.targets_M] = True
    row = np.repeat(np.arange(len(lengths)), lengths)
    ordinary = ~np.isin(tokens, SPECIAL)
    groups = {}
    for index in np.flatnonzero(ordinary):
        groups.setdefault((row[index], words[index]), []).append(is_target[index])
    assert all(len(set(chosen)) == 1 for chosen in groups.values())
    assert within(is_target.sum() / ordinary.sum(), 0.15, ordinary.sum() / 4)
    for size in (1, 2, 3, 4):
        chosen = [chosen[0] for chosen in groups.values() if len(chosen) == size]
        # A word that would exceed the row's number is taken with a proportional chance, so long words are hardly rarer.
        assert 0.12 < np.mean(chosen) < 0.18


def test_a_word_of_many_tokens_is_masked_by_tokens():
    tokens, lengths, keys = rows(200, 40, 40)
    clause = np.repeat(np.arange(len(lengths)), lengths)
    whole = mask(tokens, lengths, keys, clause)
    assert whole.targets_M.tolist() == mask(tokens, lengths, keys).targets_M.tolist()


def test_uniform_is_splitmix64():
    # The generator's published first outputs for the seed 1234567 (Vigna's reference code).
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    values = uniform(np.full(4, 1234567, np.uint64), np.arange(4, dtype=np.uint64))
    assert values.tolist() == [(x >> 11) * 2.0**-53 for x in reference]


def test_copies_and_seeds_differ():
    tokens, lengths, keys = rows(50, 20, 20)
    other = np.array([example_key(1, str(i)) for i in range(50)], np.uint64)
    assert (mask(tokens, lengths, keys).targets_M.tolist()) != (mask(tokens, lengths, other).targets_M.tolist())


@pytest.mark.parametrize("teacher", world.TEACHERS)
def test_whole_words_are_masked_whole(english, short_lines, teachers, teacher):
    path, lines = short_lines(world.TEACHERS[teacher])
    masking = {"mlm_probability": 0.3, "whole_words": True}
    folder = english([path], teacher=teacher, masking=masking, min_length=1)
    to_teacher = pd.read_parquet(folder / VOCABULARY_FILE)[teacher]
    tokenizer = AutoTokenizer.from_pretrained(teachers / teacher)
    places = line_places(Path(path).read_bytes())
    sizes = []
    for row in outputs.rows(folder).itertuples():
        encoding = tokenizer(lines[places[int(row.example_id.split(":")[3])]], add_special_tokens=False)
        if len(encoding["input_ids"]) > world.MAX_LENGTH - 2:
            continue
        assert to_teacher[row.labels].tolist() == [encoding["input_ids"][p - 1] for p in row.masked_positions]
        words = encoding.word_ids()
        chosen = [words[p - 1] for p in row.masked_positions]
        for word in set(chosen):
            if words.count(word) <= 8:
                assert chosen.count(word) == words.count(word)
                sizes.append(words.count(word))
    assert sum(size > 1 for size in sizes) > 50
