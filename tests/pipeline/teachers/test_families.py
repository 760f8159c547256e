"""Families beyond WordPiece with ##, SentencePiece and byte-level BPE: exact with merged ids, equal tokens merged."""

import json

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from pipeline.config import TeacherConfig
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary import identity
from pipeline.vocabulary.merge import identities, merge
from schemas.errors import UserError
from tests.support import world
from tests.support.families import FAMILIES, LINES, herbert, make_teacher
from tests.support.teachers import make_default

ODD = [
    "",
    " ",
    "river",
    "unseen ëß, (x)",
    "नदी 😀",
    "  the   sea ",
    "[MASK] <mask> </w> the</w>",
    "a\tb\nc",
    "MKTAYIAK",
]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    bert = world.make_tokenizer("wordpiece", LINES, 400).backend_tokenizer
    made = {"bert": make_teacher(tmp_path_factory.mktemp("bert"), "bert", bert)}
    return made | {
        make.__name__: make_teacher(tmp_path_factory.mktemp("t"), make.__name__, make()) for make in FAMILIES
    }


@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)
def test_exact_with_merged_ids(teachers, make):
    teacher = teachers[make.__name__]
    assert teacher.family == FAMILIES[make]
    vocabulary = merge(list(teachers.values()))
    to_merged = vocabulary.to_merged(teacher.name)
    merged = remap_tokenizer(teacher.hf, to_merged, vocabulary.id_of("pad"))
    for line in LINES + ODD:
        ids = teacher.hf(line)["input_ids"]
        assert merged(line)["input_ids"] == to_merged[ids].tolist()
        for skip in (False, True):
            expected = teacher.hf.decode(ids, skip_special_tokens=skip)
            assert merged.decode(to_merged[ids], skip_special_tokens=skip) == expected
    for actual in identities(teacher, "family").values():
        assert identity.parse(actual.role, identity.display(actual)) == actual


def test_which_tokens_are_one(teachers):
    vocabulary = merge(list(teachers.values()))
    vocabularies = {name: made.hf.get_vocab() for name, made in teachers.items()}

    def merged(name: str, token: str) -> int:
        return int(vocabulary.to_merged(name)[vocabularies[name][token]])

    assert merged("bert", "the") == merged("hplt", "Ġthe") == merged("herbert", "the</w>") == merged("words", "the")
    assert merged("bert", ",") == merged("hplt", ",") == merged("herbert", ",</w>") == merged("words", ",")
    assert merged("hplt", "A") == merged("characters", "A")
    both = [token for token in vocabularies["herbert"] if f"{token}</w>" in vocabularies["herbert"]]
    assert len(both) > 5 and all(merged("herbert", token) != merged("herbert", f"{token}</w>") for token in both)


def test_a_vocabulary_of_amino_acids(tmp_path):
    """The layout is ESM's, which transformers reads only with Python code."""
    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (tmp_path / "config.json").write_text('{"model_type": "esm"}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "EsmTokenizer"}')
    original = AutoTokenizer.from_pretrained(tmp_path)
    made = load_tokenizer("esm", TeacherConfig(model=str(tmp_path), languages=["x"]))
    assert made.family == identity.CHARACTERS and set(made.roles) == {"mask", "start", "end", "unknown", "pad"}
    for line in ["MKTAYIAKQRQISFVKSHFSRQ", "MKT <mask>LJj A-<null_1>x y", "mk <pad> A  B", *ODD]:
        ids = original(line)["input_ids"]
        assert made.hf(line)["input_ids"] == ids
        assert made.hf.decode(ids) == original.decode(ids)


def test_the_default_tokenizer_writes_what_they_can(teachers, tmp_path):
    """Each is combined with BERT: no word is unknown, a first word is like others, and decoding restores the text."""
    for name in ("hplt", "herbert", "gemma"):
        tokenizer, vocabulary = make_default([teachers[name], teachers["bert"]], tmp_path / name)
        unknown = vocabulary.id_of("unknown")
        for line in LINES[:20] + LINES[-20:]:
            ids = tokenizer(line)["input_ids"]
            assert unknown not in ids
            assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == line.replace(" ", "")
        first, later = tokenizer.tokenize("river"), tokenizer.tokenize("the river")
        assert later[-len(first) :] == first, name


def test_marks_of_an_unknown_kind_are_refused(tmp_path):
    backend = herbert()
    state = json.loads(backend.to_str())
    state["model"]["end_of_word_suffix"] = "@"
    with pytest.raises(UserError, match="is of no supported kind: WordPiece") as refusal:
        make_teacher(tmp_path, "odd", Tokenizer.from_str(json.dumps(state)))
    assert "\n" not in str(refusal.value)
