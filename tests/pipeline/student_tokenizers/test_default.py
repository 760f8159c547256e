"""The default tokenizer, compared with separate counts."""

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer

from pipeline.config import TeacherConfig
from pipeline.drift import Drift, count_words
from pipeline.student_tokenizers.default import _scores, _segmentations
from pipeline.student_tokenizers.store import write_tokenizer
from pipeline.student_tokenizers.word_counts import WORDS_SCHEMA, tokens_of_spans
from pipeline.teachers.tokenizer import load_tokenizer
from schemas.manifest import DEFAULT_TOKENIZER
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary
from tests.support import realtext, world
from tests.support.paths import ROOT
from tests.support.teachers import fitted, load, make_default, make_teachers

LANGUAGES = {"de": "wordpiece", "ru": "unigram", "zh_Hans": "bpe"}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    text = {language: realtext.translations(language) for language in LANGUAGES}
    train = {language: lines[::2] + lines[1::4] for language, lines in text.items()}
    heldout = {language: lines[3::4] for language, lines in text.items()}
    teachers = make_teachers(tmp_path_factory.mktemp("real"), train, LANGUAGES)
    return *fitted(train, teachers), heldout


@pytest.fixture(scope="module")
def by_string(real, tmp_path_factory):
    """The default tokenizer of the same teachers, tokens of equal strings merged."""
    text = {language: realtext.translations(language) for language in LANGUAGES}
    train = {language: lines[::2] + lines[1::4] for language, lines in text.items()}
    teachers = make_teachers(tmp_path_factory.mktemp("strings"), train, LANGUAGES)
    return fitted(train, teachers, "string")


texts = st.one_of(
    st.text(max_size=30), st.sampled_from(["A\u0301", "Ｆｕｌｌ，", "ﬁ", "a\u200db", "\ue000", "\x07", "👩‍🔬"])
)


@settings(deadline=None, max_examples=300)
@given(texts)
def test_nothing_is_unknown_that_a_teacher_could_encode(real, text):
    default, teachers, vocabulary, _ = real
    unknown = vocabulary.id_of("unknown")
    if any(unknown not in teacher(text)["input_ids"] for teacher in teachers.values()):
        assert unknown not in default(text)["input_ids"]


@settings(deadline=None, max_examples=300)
@given(texts)
def test_nothing_is_unknown_where_equal_strings_are_one_token(by_string, text):
    default, teachers, vocabulary = by_string
    unknown = vocabulary.id_of("unknown")
    if any(unknown not in teacher(text)["input_ids"] for teacher in teachers.values()):
        assert unknown not in default(text)["input_ids"]


def test_equal_strings_are_segmented_as_by_their_teachers(by_string, real):
    """For example, the strings `the` and `▁the` are two tokens for one word, of which the default tokenizer uses one."""
    default, teachers, vocabulary = by_string
    assert not {"word", "continuation"} & set(vocabulary.roles)
    for language, lines in real[3].items():
        actual = Drift.of(language, count_words(teachers[language], default, iter(lines)))
        assert actual.identical > 0.5 and 0.8 < actual.default_fertility / actual.teacher_fertility < 1.2, actual


@pytest.mark.parametrize("token_identity", ["family", "string"])
def test_without_byte_tokens_neither(tmp_path, token_identity):
    """With only WordPiece and Unigram, one of them uncased, capitals, widths and controls are as for the teachers."""
    text = {language: realtext.translations(language) for language in ("de", "ru")}
    teachers = make_teachers(tmp_path, text, {"de": "wordpiece", "ru": "unigram"}, lowercase="de")
    default, remapped, vocabulary = fitted(text, teachers, token_identity)
    unknown = vocabulary.id_of("unknown")
    # Capitals that only the uncased teacher can write, and a lone character that only starts words.
    lines = [*text["de"], "ÄÖÜ ẞ", "\x07Zeit\ue000 a\u200db", "（Ж）", "Zeit\u00a0x\u3000y"]
    for line in lines:
        if any(unknown not in teacher(line)["input_ids"] for teacher in remapped.values()):
            assert unknown not in default(line)["input_ids"], line
    assert sum(unknown not in remapped["de"](line)["input_ids"] for line in lines) > len(lines) * 0.9


def test_words_are_mostly_segmented_as_by_their_teacher(real):
    """On held-out text, in three scripts and families.

    The teachers are trained on only 600 lines each, so the threshold is low; the slow test below has the real one.
    """
    default, teachers, _, heldout = real
    for language, lines in heldout.items():
        actual = Drift.of(language, count_words(teachers[language], default, iter(lines)))
        assert actual.identical > 0.75 and 0.9 < actual.default_fertility / actual.teacher_fertility < 1.1, actual


@pytest.mark.slow
@pytest.mark.parametrize(
    "families",
    [
        {"en": "wordpiece", "ru": "unigram", "hi": "bpe"},
        {"en": "unigram", "ar": "bpe", "zh": "wordpiece"},
        {"en": "wordpiece", "ru": "wordpiece", "hi": "wordpiece"},
    ],
)
def test_the_bar(tmp_path, families):
    """On held-out text (every tenth chapter) nine words in ten are segmented as by their teacher.

    Tokens per word are within 5 % of the teacher's, and no more tokens are unknown.
    """
    train, heldout = {}, {}
    for language in families:
        lines = realtext.verses(language, ROOT / "demo" / "downloads")
        heldout[language] = [line for number, line in enumerate(lines) if number // 25 % 10 == 0]
        train[language] = [line for number, line in enumerate(lines) if number // 25 % 10]
    default, teachers, _ = fitted(train, make_teachers(tmp_path, train, families, size=8000))
    for language, lines in heldout.items():
        actual = Drift.of(language, count_words(teachers[language], default, iter(lines)))
        print(actual)
        assert actual.identical >= 0.9 and abs(actual.default_fertility / actual.teacher_fertility - 1) <= 0.05
        assert actual.default_unknown * actual.default_fertility <= actual.teacher_unknown * actual.teacher_fertility


def test_a_mask_disturbs_nothing_beside_it(real):
    """As in the teachers' rows, text after a mask continues the word, or starts one if a space comes between."""
    default, _, _, _ = real

    def pieces(text: str) -> list[str]:
        return default.convert_ids_to_tokens(default(text, add_special_tokens=False)["input_ids"])

    assert pieces("Zeit <mask>, und") == [*pieces("Zeit"), "<mask>", ",", *pieces("und")]
    assert pieces("Zeit <mask> und") == [*pieces("Zeit"), "<mask>", *pieces("und")]
    assert pieces("<mask> und") == ["<mask>", *pieces("und")]
    assert not pieces("利<mask>亚")[2].startswith("▁")
    assert pieces("  Zeit  und ") == pieces("Zeit und")


def test_added_tokens_of_a_teacher(tmp_path):
    tokenizer = world.make_tokenizer("wordpiece", world.sentences("en", 100))
    tokenizer.add_tokens(["😀", "New York"])
    tokenizer.save_pretrained(tmp_path / "a")
    world.make_tokenizer("unigram", world.sentences("ru", 100)).save_pretrained(tmp_path / "b")
    teachers = [load_tokenizer(n, TeacherConfig(model=str(tmp_path / n), languages=["x"])) for n in ("a", "b")]
    default, remapped, vocabulary = fitted({"a": world.sentences("en", 50), "b": world.sentences("ru", 50)}, teachers)
    for text in ("the 😀", "New York"):
        ids = default(text)["input_ids"]
        assert vocabulary.id_of("unknown") not in ids and ids[-2] == remapped["a"](text)["input_ids"][-2]


def test_a_letter_that_a_teacher_has_decomposed(tmp_path):
    """NFC would compose न and its nukta into a letter that no teacher has."""
    lines = ["न\u093cज़ न\u093c र\u093c कन\u093c" for _ in range(50)]
    for name in ("a", "b"):
        world.make_tokenizer("wordpiece", lines).save_pretrained(tmp_path / name)
    teachers = [load_tokenizer(n, TeacherConfig(model=str(tmp_path / n), languages=["x"])) for n in ("a", "b")]
    default, remapped, vocabulary = fitted({"a": lines, "b": lines}, teachers)
    for line in (lines[0], "न\u093c"):
        assert vocabulary.id_of("unknown") not in remapped["a"](line)["input_ids"]
        assert vocabulary.id_of("unknown") not in default(line)["input_ids"]


def test_long_runs_of_spaces_are_gone_over_once():
    tokenizer = world.make_tokenizer("bpe", ["a b"]).backend_tokenizer
    line = "a" + " " * 200_000 + "b"
    encoding = tokenizer.encode(line, add_special_tokens=False)
    first, last = tokens_of_spans(line, encoding, [(0, 1), (200_001, 200_002)])
    assert len(first) == 1 and len(last) > 1


def test_saved_and_loaded_it_is_the_same(real, tmp_path):
    default, _, vocabulary, heldout = real
    write_tokenizer(str(tmp_path), default)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    lines = [line for lines in heldout.values() for line in lines]
    assert loaded(lines)["input_ids"] == default(lines)["input_ids"]
    assert len(loaded) == len(vocabulary) and loaded.backend_tokenizer.to_str() == default.backend_tokenizer.to_str()
    assert loaded.decode(loaded(lines[3])["input_ids"], skip_special_tokens=True) == lines[3]


def test_nfd_input(real):
    default, _, _, heldout = real
    for line in heldout["de"]:
        assert default(unicodedata.normalize("NFD", line))["input_ids"] == default(line)["input_ids"]


def test_the_default_tokenizer_encodes_every_language(predictions, text):
    tokenizer = AutoTokenizer.from_pretrained(predictions / DEFAULT_TOKENIZER)
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    assert tokenizer.mask_token_id == vocabulary.id_of("mask")
    for language in world.WORDS:
        for line in (text / f"{language}.heldout.txt").read_text().splitlines():
            ids = tokenizer(line)["input_ids"]
            assert vocabulary.id_of("unknown") not in ids
            assert ids[0] == vocabulary.id_of("start") and ids[-1] == vocabulary.id_of("end")
            # BERT's words, which fit this world best, lose the spaces around punctuation.
            assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == line.replace(" ", "")


# Like the added tokens of ModernBERT, GPT-NeoX and OLMo.
SPACES = [AddedToken(" " * count, normalized=True, special=False) for count in range(2, 25)]


# Normalization makes some pairs of these equal.
PAIRS = [
    "caf\u00e9",
    "cafe\u0301",
    "a\u00a0b",
    "a b",
    "\t",
    "\u3000",
    "x ",
    "x",
    "<mask>",
    "▁",
    "▁the",
    "<0x41>",
    "\u200b",
]


@pytest.fixture(scope="module")
def folders(teachers, tmp_path_factory) -> dict[str, Path]:
    """A ModernBERT-like teacher and the small world's teachers."""
    tokenizer = world.make_tokenizer("bpe", world.sentences("en", 100))
    tokenizer.add_tokens(SPACES)
    folder = tmp_path_factory.mktemp("spaces")
    tokenizer.save_pretrained(folder)
    return {"spaces": folder} | {name: teachers / name for name in world.TEACHERS}


def test_runs_of_spaces(folders, tmp_path):
    teachers = [load(folder, name) for name, folder in folders.items()]
    tokenizer, vocabulary = make_default(teachers, tmp_path)
    for role, name in (("mask", "mask"), ("pad", "pad"), ("start", "cls"), ("end", "sep"), ("unknown", "unk")):
        assert getattr(tokenizer, f"{name}_token_id") == vocabulary.id_of(role)
    assert tokenizer("the     river")["input_ids"] == tokenizer("the river")["input_ids"]
    assert tokenizer.decode(tokenizer("the     river")["input_ids"], skip_special_tokens=True) == "the river"


@pytest.mark.heavy
@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PAIRS) | st.text(min_size=1, max_size=3), st.booleans(), st.booleans(), st.booleans()
        ),
        max_size=12,
    )
)
def test_any_added_tokens(folders, tmp_path_factory, added):
    original = world.make_tokenizer("bpe", world.sentences("en", 30))
    for content, normalized, special, strips in added:
        original.add_tokens(
            [AddedToken(content, normalized=normalized, special=special, lstrip=strips, rstrip=strips)],
            special_tokens=special,
        )
    folder = tmp_path_factory.mktemp("added")
    original.save_pretrained(folder)
    teachers = [load(folder, "added"), load(folders["ru-unigram"], "ru"), load(folders["en-wordpiece"], "en")]
    tokenizer, vocabulary = make_default(teachers, folder / "default")
    assert tokenizer.mask_token_id == vocabulary.id_of("mask")
    for line in ["the river café", "река <mask> a b", *(content for content, *_ in added)]:
        ids = tokenizer(line)["input_ids"]
        assert min(ids) >= 0 and max(ids) < len(vocabulary)
        tokenizer.decode(ids)


def test_a_language_has_one_weight_however_many_teachers_it_has():
    """Compared with a separate count: each token's share in a teacher's segmentation, with half an occurrence added."""
    rows = [("de", "a", [0, 1]), ("de", "b", [2]), ("fr", "a", [3])]
    words = [
        {"language": language, "teacher": name, "word": "x", "count": 2, "ids": ids} for language, name, ids in rows
    ]
    scores = _scores(_segmentations(pa.Table.from_pylist(words, WORDS_SCHEMA)), 4)
    of_a, of_b, of_french = (np.array(counts) + 0.5 for counts in ([2, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2]))
    frequencies = (of_a / of_a.sum() + of_b / of_b.sum()) / 2 + of_french / of_french.sum()
    np.testing.assert_allclose(scores, np.log(frequencies / 2), atol=1e-6)
