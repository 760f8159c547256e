"""The merged vocabulary: total, injective, stable, and shared where the rules say so."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import TeacherConfig
from pipeline.teachers.family import BYTE_LEVEL, SENTENCEPIECE, WORDPIECE
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary.identity import byte_alphabet
from pipeline.vocabulary.merge import merge
from schemas.errors import UserError
from schemas.vocabulary import read_vocabulary, write_vocabulary
from tests.support import world


@dataclass
class Teacher:
    """As much of a `TeacherTokenizer` as merging reads."""

    name: str
    family: str
    tokens: dict[int, str]
    roles: dict[str, int]
    added: frozenset = field(default_factory=frozenset)


SPECIALS = {WORDPIECE: world.BERT_SPECIALS, SENTENCEPIECE: world.ROBERTA_SPECIALS, BYTE_LEVEL: world.ROBERTA_SPECIALS}
ROLES = {
    "[PAD]": "pad", "[UNK]": "unknown", "[CLS]": "start", "[SEP]": "end", "[MASK]": "mask",
    "<pad>": "pad", "<unk>": "unknown", "<s>": "start", "</s>": "end", "<mask>": "mask",
}  # fmt: skip
text = st.text(alphabet="ab,(我é▁ -#<0xE6>[]", min_size=1, max_size=5)
bytes_written = st.text(alphabet=sorted(byte_alphabet()), min_size=1, max_size=4)
strings = {
    WORDPIECE: st.one_of(text, text.map("##".__add__)),
    SENTENCEPIECE: st.one_of(text, text.map("▁".__add__), st.sampled_from(["<0x41>", "<0xE6>", "A"])),
    BYTE_LEVEL: st.one_of(bytes_written, bytes_written.map("Ġ".__add__)),
}


@st.composite
def teacher_lists(draw):
    teachers = []
    for number in range(draw(st.integers(1, 4))):
        family = draw(st.sampled_from(list(strings)))
        own = draw(st.lists(strings[family], unique=True, max_size=25))
        tokens = [*SPECIALS[family], *(token for token in own if token not in ROLES)]
        # Gaps, as vocabularies have whose embedding was padded or pruned.
        ids = sorted(draw(st.sets(st.integers(0, 60), min_size=len(tokens), max_size=len(tokens))))
        by_id = dict(zip(ids, tokens, strict=True))
        teachers.append(
            Teacher(f"t{number}", family, by_id, {ROLES[token]: own for own, token in by_id.items() if token in ROLES})
        )
    return teachers


@given(teacher_lists(), st.sampled_from(["family", "string"]))
def test_every_map_is_total_injective_and_invertible(teachers, identity):
    vocabulary = merge(teachers, identity)
    for teacher in teachers:
        to_merged = vocabulary.to_merged(teacher.name)
        images = [int(to_merged[own]) for own in teacher.tokens]
        assert len(set(images)) == len(teacher.tokens)
        assert all(
            vocabulary.teacher_ids[teacher.name][image] == own
            for own, image in zip(teacher.tokens, images, strict=True)
        )
        for role, own in teacher.roles.items():
            assert to_merged[own] == vocabulary.id_of(role)
    # Every merged token is some teacher's, and no two are written alike.
    assert (np.stack(list(vocabulary.teacher_ids.values())) >= 0).any(0).all()
    written = list(zip(vocabulary.roles, vocabulary.tokens, strict=True))
    assert len(set(written)) == len(written)


@given(teacher_lists())
def test_a_further_teacher_only_appends(teachers):
    fewer, more = merge(teachers[:1]), merge(teachers)
    assert more.tokens[: len(fewer)] == fewer.tokens
    first = teachers[0].name
    assert (more.to_merged(first) == fewer.to_merged(first)).all()
    assert fewer.to_merged(first)[sorted(teachers[0].tokens)].tolist() == list(range(len(fewer)))


@settings(deadline=None)
@given(teacher_lists())
def test_files_keep_everything(tmp_path_factory, teachers):
    vocabulary = merge(teachers)
    url = str(tmp_path_factory.mktemp("vocabulary") / "v.parquet")
    write_vocabulary(url, vocabulary)
    read = read_vocabulary(url)
    assert (read.tokens, read.roles, read.sha256) == (vocabulary.tokens, vocabulary.roles, vocabulary.sha256)
    assert all((read.teacher_ids[name] == own).all() for name, own in vocabulary.teacher_ids.items())


@pytest.fixture(scope="module")
def tokenizers(teachers):
    return [
        load_tokenizer(name, TeacherConfig(model=str(teachers / name), languages=[language]))
        for name, language in world.TEACHERS.items()
    ]


def test_real_tokenizers_share_what_they_should(tokenizers):
    vocabulary = merge(tokenizers)
    by_name = {tokenizer.name: {token: own for own, token in tokenizer.tokens.items()} for tokenizer in tokenizers}

    def merged(teacher: str, token: str) -> int:
        return int(vocabulary.to_merged(teacher)[by_name[teacher][token]])

    assert [tokenizer.family for tokenizer in tokenizers] == [WORDPIECE, SENTENCEPIECE, BYTE_LEVEL]
    assert merged("en-wordpiece", "the") == merged("hi-bpe", "Ġthe")
    assert merged("en-wordpiece", "##9") == merged("ru-unigram", "9") == merged("hi-bpe", "9")
    assert merged("en-wordpiece", ",") == merged("ru-unigram", ",") == merged("hi-bpe", ",")
    assert merged("en-wordpiece", "[MASK]") == merged("ru-unigram", "<mask>") == merged("hi-bpe", "<mask>")
    assert len(vocabulary) < len(merge(tokenizers, "string")) < sum(len(tokenizer.tokens) for tokenizer in tokenizers)


def test_tokenizers_without_what_a_teacher_needs_are_refused(tmp_path):
    config = TeacherConfig(model=str(tmp_path), languages=["en"])
    with pytest.raises(UserError, match="tokenizer cannot be loaded"):
        load_tokenizer("t", config)
    tokenizer = world.make_tokenizer("wordpiece", world.sentences("en", 50))
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no mask token"):
        load_tokenizer("t", config)
