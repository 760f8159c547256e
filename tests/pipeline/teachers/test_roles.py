"""Teachers that use one token for two roles: the merged vocabulary keeps the roles apart."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.vocabulary.merge import merge
from schemas.errors import UserError
from tests.support import world
from tests.support.teachers import load

# By name: a family, and the special tokens that share a token with another role.
SHARED = {
    "pads with its end": ("bpe", {"pad_token": "</s>"}),  # EuroBERT
    "pads with its unknown": ("unigram", {"pad_token": "<unk>"}),
    "pads with its start": ("wordpiece", {"pad_token": "[CLS]"}),
    "unknown is its end": ("bpe", {"unk_token": "</s>"}),
    "all in one": ("bpe", {"pad_token": "</s>", "unk_token": "</s>"}),
}


def make(kind: str, folder):
    family, roles = SHARED[kind]
    tokenizer = world.make_tokenizer(family, world.sentences("en", 100))
    for name, token in roles.items():
        setattr(tokenizer, name, token)
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder), load(folder, "shared")


@pytest.mark.parametrize("beside", [[], ["ru-unigram"]], ids=["alone", "beside another"])
@pytest.mark.parametrize("kind", SHARED)
def test_roles_are_kept_apart(kind, beside, tmp_path, teachers):
    original, teacher = make(kind, tmp_path / "teacher")
    vocabulary = merge([teacher, *(load(teachers / name, name) for name in beside)])
    to_merged, pad_id = vocabulary.to_merged("shared"), vocabulary.id_of("pad")
    tokenizer = remap_tokenizer(teacher.hf, to_merged, pad_id)
    tokenizer.save_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    lines = ["the river", "my house sings; a 1999 song."]
    for line in lines:
        ids = original(line)["input_ids"]
        assert tokenizer(line)["input_ids"] == to_merged[ids].tolist()
        assert tokenizer.decode(to_merged[ids]) == original.decode(ids)
        # A sequence holds no padding, and ends with the merged end token.
        assert pad_id not in to_merged[ids]
        assert [vocabulary.roles[to_merged[teacher_id]] for teacher_id in (ids[0], ids[-1])] == ["start", "end"]
    assert tokenizer.pad_token_id == pad_id and tokenizer.mask_token_id == vocabulary.id_of("mask")
    padded = tokenizer(lines, padding=True)
    assert np.array_equal(np.array(padded["input_ids"]) == pad_id, np.array(padded["attention_mask"]) == 0)


def test_one_token_starts_and_ends(tmp_path):
    """As in tokenizers like GPT-2's, the token that ends a sequence gets the role of the end."""
    tokenizer = world.make_tokenizer("bpe", world.sentences("en", 100))
    state = tokenizer.backend_tokenizer
    for name in ("cls_token", "bos_token"):
        setattr(tokenizer, name, "</s>")
    tokenizer.save_pretrained(tmp_path)
    # Sequences still start with `<s>`, which has no role now.
    teacher = load(tmp_path)
    assert teacher.roles["end"] == state.token_to_id("</s>") and "start" not in teacher.roles


def test_a_mask_that_is_another_token_is_refused(tmp_path):
    tokenizer = world.make_tokenizer("bpe", world.sentences("en", 100))
    tokenizer.mask_token = "<unk>"
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="its mask token, '<unk>', also has another special role"):
        load(tmp_path)
