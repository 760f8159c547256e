"""The tokenizers that stage one writes load in plain transformers and segment like the teachers, in merged ids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipeline.student_tokenizers.remap import remap_tokenizer
from schemas.manifest import TEACHER_TOKENIZERS
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary
from tests.support import world


@pytest.fixture(scope="module")
def pairs(teachers, predictions):
    """For each teacher its own tokenizer, the remapped one, and its ids in the merged vocabulary."""
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    return {
        name: (
            AutoTokenizer.from_pretrained(teachers / name),
            AutoTokenizer.from_pretrained(predictions / TEACHER_TOKENIZERS / name),
            vocabulary.to_merged(name),
        )
        for name in world.TEACHERS
    }


texts = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from([*sum(world.WORDS.values(), []), " ", "  ", "<mask>", "[MASK]", "नदी", "👩\u200d🔬", "é", "é"])
    ).map(" ".join),
)


@settings(deadline=None, max_examples=200)
@given(texts)
def test_remapped_tokenizers_give_the_teachers_ids_remapped(pairs, text):
    for original, remapped, to_merged in pairs.values():
        expected = original(text)["input_ids"]
        assert remapped(text)["input_ids"] == to_merged[expected].tolist()
        assert remapped.decode(remapped(text)["input_ids"]) == original.decode(expected)


@pytest.mark.parametrize("family", ["wordpiece", "unigram", "bpe"])
def test_added_tokens_outside_the_models_vocabulary_keep_their_ids(family):
    original = world.make_tokenizer(family, world.sentences("en", 100))
    original.add_tokens(["covid-19"])
    original.add_tokens(["<entity>"], special_tokens=True)
    to_merged = np.random.default_rng(0).permutation(2 * len(original))[: len(original)].astype(np.int32)
    remapped = remap_tokenizer(original, to_merged)
    text = "the covid-19 <entity> river"
    assert {original.convert_tokens_to_ids(token) for token in ("covid-19", "<entity>")} < set(
        original(text)["input_ids"]
    )
    assert remapped(text)["input_ids"] == to_merged[original(text)["input_ids"]].tolist()


def test_special_tokens_are_carried_over(pairs):
    for original, remapped, to_merged in pairs.values():
        for name in ("pad", "unk", "cls", "sep", "mask"):
            assert getattr(remapped, f"{name}_token_id") == to_merged[getattr(original, f"{name}_token_id")]
