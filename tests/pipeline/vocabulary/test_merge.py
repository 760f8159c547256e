"""The merged vocabulary: total, injective, stable, and shared according to the rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import TeacherConfig
from pipeline.teachers.family import BYTE_LEVEL, SENTENCEPIECE, WORDPIECE
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary.merge import merge
from schemas.errors import UserError
from schemas.vocabulary import read_vocabulary, write_vocabulary
from tests.support import world
from tests.support.vocabularies import teacher_lists


@given(teacher_lists(), st.sampled_from(["family", "string"]))
def test_every_map_is_total_injective_and_invertible(teachers, identity):
    vocabulary = merge(teachers, identity)
    for teacher in teachers:
        to_merged = vocabulary.to_merged(teacher.name)
        images = [int(to_merged[teacher_id]) for teacher_id in teacher.tokens]
        assert len(set(images)) == len(teacher.tokens)
        assert all(
            vocabulary.teacher_ids[teacher.name][image] == teacher_id
            for teacher_id, image in zip(teacher.tokens, images, strict=True)
        )
        for role, teacher_id in teacher.roles.items():
            assert to_merged[teacher_id] == vocabulary.id_of(role)
    # Every merged token belongs to some teacher, and no two are written in the same way.
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
    assert all((read.teacher_ids[name] == ids).all() for name, ids in vocabulary.teacher_ids.items())


@pytest.fixture(scope="module")
def tokenizers(teachers):
    return [
        load_tokenizer(name, TeacherConfig(model=str(teachers / name), languages=[language]))
        for name, language in world.TEACHERS.items()
    ]


def test_real_tokenizers_share_what_they_should(tokenizers):
    vocabulary = merge(tokenizers)
    by_name = {
        tokenizer.name: {token: teacher_id for teacher_id, token in tokenizer.tokens.items()}
        for tokenizer in tokenizers
    }

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


@given(teacher_lists())
def test_growing_in_steps_is_merging_at_once(teachers):
    at_once = merge(teachers)
    grown = None
    for teacher in teachers:
        before, grown = grown, merge([teacher], base=grown)
        assert before is None or grown.extends(before)
    assert (grown.tokens, grown.roles, grown.sha256) == (at_once.tokens, at_once.roles, at_once.sha256)
    # Teachers that the vocabulary already has add nothing.
    assert merge(teachers[:1], base=grown).sha256 == grown.sha256
