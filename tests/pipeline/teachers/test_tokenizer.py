"""Teachers found in practice: odd vocabularies, old layouts, and teachers that must be refused."""

import json
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.vocabulary.merge import merge
from schemas.errors import UserError
from schemas.vocabulary import LITERAL
from tests.support import world
from tests.support.teachers import CORPUS, load, remapped

texts = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from([word for line in CORPUS[:6] for word in line.split()] + ["  ", "\t", "\u00a0"])).map(
        " ".join
    ),
).flatmap(lambda text: st.sampled_from([text, unicodedata.normalize("NFD", text)]))


def vocabulary_of(lines: list[str], lowercase: bool) -> list[str]:
    made = world.make_tokenizer("wordpiece", [line.lower() for line in lines] if lowercase else lines, 400)
    return sorted(made.get_vocab(), key=made.get_vocab().get)


@pytest.fixture(scope="module")
def berts(tmp_path_factory) -> list[Path]:
    """BERTs with only a `vocab.txt`: cased, uncased and accent-stripping, uncased with accents, Chinese not split."""
    folders = []
    for name, options in {
        "cased": {"do_lower_case": False},
        "uncased": {"do_lower_case": True},
        "accents": {"do_lower_case": True, "strip_accents": False},
        "chinese": {"do_lower_case": False, "tokenize_chinese_chars": False},
    }.items():
        folder = tmp_path_factory.mktemp(name)
        tokens = vocabulary_of(CORPUS, options["do_lower_case"])
        (folder / "vocab.txt").write_text("\n".join([*tokens[:5], "[unused0]", "[unused1]", *tokens[5:]]) + "\n")
        (folder / "config.json").write_text('{"model_type": "bert"}')
        (folder / "tokenizer_config.json").write_text(json.dumps(options))
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def bert_pairs(berts):
    teachers = [load(folder, str(number)) for number, folder in enumerate(berts)]
    merged = remapped(teachers)
    return [(AutoTokenizer.from_pretrained(f), *merged[t.name]) for f, t in zip(berts, teachers, strict=True)]


@settings(deadline=None, max_examples=200)
@given(texts)
def test_vocab_txt_alone_cased_beside_uncased(bert_pairs, text):
    for original, merged, to_merged in bert_pairs:
        expected = original(text)["input_ids"]
        assert merged(text)["input_ids"] == to_merged[expected].tolist()
        assert merged.decode(merged(text)["input_ids"]) == original.decode(expected)


def test_casing_is_each_teachers_own(bert_pairs):
    cased, uncased, accents, _ = (merged for _, merged, _ in bert_pairs)
    assert uncased("Café")["input_ids"] == uncased("cafe")["input_ids"] != cased("Café")["input_ids"]
    assert accents("Café")["input_ids"] == accents("café")["input_ids"] != accents("cafe")["input_ids"]


def test_a_class_that_rebuilds_its_tokenizer_does_not_change_it(tmp_path):
    """The BERT is cased, but its configuration does not say so: transformers would fold its case."""
    world.make_tokenizer("wordpiece", CORPUS).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    teacher = load(tmp_path)
    published = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert teacher.hf("The Café")["input_ids"] == published("The Café")["input_ids"]
    assert teacher.hf("The Café")["input_ids"] != AutoTokenizer.from_pretrained(tmp_path)("The Café")["input_ids"]
    assert set(teacher.roles) == {"pad", "unknown", "start", "end", "mask"}


def test_prefix_spaces_are_each_teachers_own(tmp_path):
    """Tokenizers of RoBERTa's family put a space before the text or do not: `ĠThe` or `The`."""
    ids = []
    for prefixed in (False, True):
        tokenizer = world.make_tokenizer("bpe", CORPUS)
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        state["pre_tokenizer"]["add_prefix_space"] = prefixed
        folder = tmp_path / str(prefixed)
        tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(state))
        teacher = load(folder)
        merged, to_merged = remapped([teacher])[teacher.name]
        assert merged("The café")["input_ids"] == to_merged[teacher.hf("The café")["input_ids"]].tolist()
        ids.append(teacher.hf.tokenize("The café"))
    assert not ids[0][0].startswith("Ġ") and ids[1][0].startswith("Ġ")


@pytest.mark.parametrize("family", ["wordpiece", "unigram", "bpe"])
def test_added_tokens_with_spaces_and_repeats(tmp_path, family):
    tokenizer = world.make_tokenizer(family, CORPUS)
    repeated = next(token for token in tokenizer.get_vocab() if token.isalpha() and len(token) > 1)
    tokenizer.add_tokens(["New York", "[unused7]", repeated, "New York"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<ent>"]})
    tokenizer.save_pretrained(tmp_path)
    teacher, twin = load(tmp_path), load(tmp_path, "twin")
    merged = remapped([teacher, twin])
    line = f"café New York {repeated} [unused7] <ent> 😀"
    for name in ("t", "twin"):
        ours, to_merged = merged[name]
        assert ours(line)["input_ids"] == to_merged[tokenizer(line)["input_ids"]].tolist()
        assert ours.decode(ours(line)["input_ids"]) == tokenizer.decode(tokenizer(line)["input_ids"])
    vocabulary = merge([teacher, twin])
    assert len(vocabulary) == len(teacher.tokens)
    place = vocabulary.to_merged("t")[tokenizer.convert_tokens_to_ids("New York")]
    assert (vocabulary.tokens[place], vocabulary.roles[place]) == ("New York", LITERAL)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"config.json": {"model_type": "bert"}},
            "neither a tokenizer.json nor a vocabulary file that BertTokenizer reads",
        ),
        ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n"}, "no mask token"),
        ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"}, "special tokens only; copy the tokenizer's files"),
        ({"vocab.txt": "[PAD]\n[CLS]\n[SEP]\n[MASK]\na\n"}, r"lacks its unknown token|cannot be loaded"),
        ({"tokenizer_config.json": {"do_basic_tokenize": False}}, "do_basic_tokenize and never_split"),
        ({"added_tokens.json": {"<far>": 50}}, "'<far>' should have the id 50, but its vocabulary gives it"),
        ({"tokenizer.json": "{}"}, "its tokenizer.json cannot be loaded"),
        ({"added_tokens.json": "[1]"}, "its added_tokens.json cannot be read"),
        ({"tokenizer_config.json": "{"}, "its tokenizer_config.json cannot be read"),
        ({"config.json": {"model_type": "xlm-roberta"}, "sentencepiece.bpe.model": ""}, "empty|cannot be loaded"),
        ({"config.json": {"model_type": "phobert"}, "bpe.codes": "a b 1\n"}, "only as Python code|cannot be loaded"),
        (
            {
                "tokenizer_config.json": {"tokenizer_class": "BertweetTokenizer"},
                "vocab.txt": "a 1\nb 1\n",
                "bpe.codes": "a b 1\n",
            },
            "BertweetTokenizer exists only as Python code",
        ),
    ],
)
def test_what_cannot_be_exact_is_refused(tmp_path, files, message):
    base = {"config.json": {"model_type": "bert"}}
    if "config.json" not in files:
        base["vocab.txt"] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n"
    for name, content in (base | files).items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message) as refusal:
        load(tmp_path)
    assert str(tmp_path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_an_added_token_for_whole_words_only_is_refused(tmp_path):
    tokenizer = world.make_tokenizer("wordpiece", CORPUS)
    tokenizer.add_tokens([AddedToken("qu", single_word=True)])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="its added token 'qu' has the flag single_word"):
        load(tmp_path)


def test_an_added_token_keeps_its_flags(tmp_path):
    tokenizer = world.make_tokenizer("bpe", CORPUS)
    tokenizer.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True, special=True)})
    tokenizer.save_pretrained(tmp_path)
    merged, to_merged = remapped([load(tmp_path)])["t"]
    assert merged("café <mask>")["input_ids"] == to_merged[tokenizer("café <mask>")["input_ids"]].tolist()
    assert torch.tensor(merged("café  <mask>")["input_ids"]).eq(merged.mask_token_id).sum() == 1


@pytest.mark.parametrize("family", ["wordpiece", "unigram", "bpe"])
def test_special_ids_are_the_roles_the_frame_and_the_tokens_called_special(tmp_path, family):
    tokenizer = world.make_tokenizer(family, CORPUS)
    tokenizer.save_pretrained(tmp_path / "roles")
    teacher = load(tmp_path / "roles")
    assert teacher.special_ids.tolist() == sorted(teacher.roles.values())

    # mBART: a text ends with `</s> en_XX`, and the language code has no role.
    tokenizer.add_tokens(["en_XX", "<number>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<entity>"]})
    code, number, entity = tokenizer.convert_tokens_to_ids(["en_XX", "<number>", "<entity>"])
    end = tokenizer.convert_ids_to_tokens(teacher.suffix[0])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", end, "en_XX"], special_tokens=[(end, teacher.suffix[0]), ("en_XX", code)]
    )
    tokenizer.save_pretrained(tmp_path / "mbart")
    mbart = load(tmp_path / "mbart")
    assert mbart.suffix == (teacher.suffix[0], code)
    assert mbart.special_ids.tolist() == sorted([*teacher.special_ids, code, entity])
    assert mbart.ordinary_ids.tolist() == [*teacher.ordinary_ids, number]
