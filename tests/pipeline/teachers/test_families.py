"""Families beyond WordPiece with ##, SentencePiece and byte-level BPE: exact with merged ids, one with their like."""

import json
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.config import TeacherConfig
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary import identity
from pipeline.vocabulary.merge import identities, merge
from schemas.errors import UserError
from tests.pipeline.teachers.test_added_tokens import make_default
from tests.support import world

LINES = world.sentences("en", 150) + world.sentences("ru", 150)
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


def hplt() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        LINES,
        trainers.WordPieceTrainer(
            vocab_size=500, special_tokens=world.BERT_SPECIALS, continuing_subword_prefix="",
            initial_alphabet=alphabet, show_progress=False,
        ),
    )  # fmt: skip
    return tokenizer


def herbert() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=world.BERT_SPECIALS, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def gemma() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=world.BERT_SPECIALS, show_progress=False)
    tokenizer.train_from_iterator((word for line in LINES for word in line.replace(" ", " ▁").split(" ")), trainer)
    return tokenizer


def words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(LINES, trainers.WordLevelTrainer(special_tokens=world.BERT_SPECIALS))
    return tokenizer


def characters() -> Tokenizer:
    vocabulary = [*world.BERT_SPECIALS, *"LAGVSERTIDPKQNFYMHWCXBUZO.-"]
    tokenizer = Tokenizer(models.WordLevel({token: own for own, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    return tokenizer


FAMILIES = {
    hplt: identity.BYTE_LEVEL,
    herbert: identity.WORD_END,
    gemma: identity.SENTENCEPIECE,
    words: identity.WORD_LEVEL,
    characters: identity.CHARACTERS,
}


def teacher(folder: Path, name: str, backend: Tokenizer):
    cls, sep = (("[CLS]", backend.token_to_id("[CLS]")), ("[SEP]", backend.token_to_id("[SEP]")))
    backend.post_processor = processors.BertProcessing(sep, cls)
    names = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
    tokens = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
    PreTrainedTokenizerFast(tokenizer_object=backend, **dict(zip(names, tokens, strict=True))).save_pretrained(folder)
    return load_tokenizer(name, TeacherConfig(model=str(folder), languages=["x"]))


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    bert = world.make_tokenizer("wordpiece", LINES, 400).backend_tokenizer
    made = {"bert": teacher(tmp_path_factory.mktemp("bert"), "bert", bert)}
    return made | {make.__name__: teacher(tmp_path_factory.mktemp("t"), make.__name__, make()) for make in FAMILIES}


@pytest.mark.parametrize("make", FAMILIES, ids=lambda make: make.__name__)
def test_exact_with_merged_ids(teachers, make):
    own = teachers[make.__name__]
    assert own.family == FAMILIES[make]
    vocabulary = merge(list(teachers.values()))
    to_merged = vocabulary.to_merged(own.name)
    merged = remap_tokenizer(own.hf, to_merged, vocabulary.id_of("pad"))
    for line in LINES + ODD:
        ids = own.hf(line)["input_ids"]
        assert merged(line)["input_ids"] == to_merged[ids].tolist()
        for skip in (False, True):
            expected = own.hf.decode(ids, skip_special_tokens=skip)
            assert merged.decode(to_merged[ids], skip_special_tokens=skip) == expected
    for found in identities(own, "family").values():
        assert identity.parse(found.kind, identity.display(found)) == found


def test_which_tokens_are_one(teachers):
    vocabulary = merge(list(teachers.values()))
    own = {name: made.hf.get_vocab() for name, made in teachers.items()}

    def merged(name: str, token: str) -> int:
        return int(vocabulary.to_merged(name)[own[name][token]])

    assert merged("bert", "the") == merged("hplt", "Ġthe") == merged("herbert", "the</w>") == merged("words", "the")
    assert merged("bert", ",") == merged("hplt", ",") == merged("herbert", ",</w>") == merged("words", ",")
    assert merged("hplt", "A") == merged("characters", "A")
    both = [token for token in own["herbert"] if f"{token}</w>" in own["herbert"]]
    assert len(both) > 5 and all(merged("herbert", token) != merged("herbert", f"{token}</w>") for token in both)


def test_a_vocabulary_of_amino_acids(tmp_path):
    """ESM's layout, which transformers reads in Python only."""
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
    """Each beside BERT: no word of its text is unknown, a text's first word is one like others, and text comes back."""
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
    with pytest.raises(UserError, match="is neither WordPiece") as refusal:
        teacher(tmp_path, "odd", Tokenizer.from_str(json.dumps(state)))
    assert "\n" not in str(refusal.value)
