"""Sequences: packing several lines into one."""

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from pipeline.shard.sequences import _pack
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import world
from tests.support.outputs import rows


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
