"""Sequences: the words of their tokens, and packing several lines into one."""

import numpy as np
import pandas as pd
import pytest
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from pipeline.shard.sequences import _pack, _tokenize
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import world
from tests.support.families import gemma, make_teacher
from tests.support.outputs import rows
from tests.support.teachers import CORPUS, load


def test_packing_loses_no_text_and_fills_the_rows(english, short_lines, teachers):
    path, lines = short_lines("en")
    plain = rows(english([path], "plain", min_length=1))
    folder = english([path], "packed", min_length=1, packing=True, shard_bytes=2**20)
    packed = rows(folder)
    assert packed.example_id.is_unique and packed.input_ids.str.len().max() <= world.MAX_LENGTH
    assert packed.input_ids.str.len().mean() > 1.5 * plain.input_ids.str.len().mean()

    # All lines in their order, between the teacher's start and end tokens.
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    to_teacher = pd.read_parquet(folder / VOCABULARY_FILE)["en-wordpiece"]
    actual = []
    for row in packed.loc[packed.example_id.str.split(":").str[3].astype(int).sort_values().index].itertuples():
        ids = row.input_ids.copy()
        ids[row.masked_positions] = row.labels
        ids = to_teacher[ids].tolist()
        assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        actual += ids[1:]
    usable = [
        ids for ids in tokenizer(lines, add_special_tokens=False)["input_ids"] if set(ids) - {tokenizer.unk_token_id}
    ]
    assert actual == [own_id for ids in usable for own_id in [*ids, tokenizer.sep_token_id]]


@pytest.mark.parametrize(("room", "separator"), [(10, 1), (10, 0), (7, 2)])
def test_pack_is_the_greedy_one(room, separator):
    sizes = np.random.default_rng(room).integers(1, room + 1, 200)
    expected, used = [], room + 1
    for index, size in enumerate(sizes):
        if used + separator + size > room:
            expected.append(index)
            used = size
        else:
            used += separator + size
    assert _pack(sizes, room, separator).tolist() == expected


def words_of(teacher, lines: list[str]) -> list[list[int]]:
    """Returns the tokens of each word."""
    tokens = _tokenize(lines, teacher, with_words=True)
    return [part.tolist() for part in np.split(tokens.ids_T, np.flatnonzero(np.diff(tokens.words_T)) + 1)]


@pytest.mark.parametrize("family", ["gemma", "unsplit unigram"])
def test_sentencepiece_words_begin_at_spaces_even_if_text_is_not_split(tmp_path, family):
    lines = ["the river sings; it's housing", "мой дом a 1999 song."]
    if family == "gemma":
        teacher = make_teacher(tmp_path, "t", gemma())
    else:
        tokenizer = world.make_tokenizer("unigram", world.sentences("en", 150) + world.sentences("ru", 150))
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
        tokenizer.save_pretrained(tmp_path)
        teacher = load(tmp_path)
    assert set(teacher.hf.backend_tokenizer.encode(lines[0], add_special_tokens=False).word_ids) == {0}
    words = words_of(teacher, lines)
    assert [teacher.hf.decode(word).strip() for word in words] == " ".join(lines).split()
    assert max(map(len, words)) > 1


@pytest.mark.parametrize("family", ["wordpiece", "unigram", "bpe"])
def test_words_are_otherwise_those_of_the_tokenizer(tmp_path, family):
    world.make_tokenizer(family, CORPUS, 400).save_pretrained(tmp_path)
    teacher = load(tmp_path)
    lines = [*CORPUS[:6], "a  b ▁c ▁ d", "▁▁", " x"]
    expected = []
    for line in lines:
        encoding = teacher.hf.backend_tokenizer.encode(line, add_special_tokens=False)
        parts = np.split(encoding.ids, np.flatnonzero(np.diff(encoding.word_ids)) + 1)
        expected += [part.tolist() for part in parts if len(part)]
    assert words_of(teacher, lines) == expected
