"""The default tokenizer and the report on it, against separate countings."""

import json
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import AutoTokenizer

from pipeline.config import TeacherConfig
from pipeline.drift import measure_drift, union_by_string
from pipeline.student_tokenizers.charsmap import compile_charsmap
from pipeline.student_tokenizers.default import default_tokenizer
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.student_tokenizers.store import read_tokenizers, write_tokenizer
from pipeline.student_tokenizers.word_counts import count_words, read_words, tokens_of_spans
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary.merge import merge
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS
from schemas.vocabulary import VOCABULARY_FILE, read_vocabulary
from tests.support import realtext, world
from tests.support.commands import call, run
from tests.support.paths import ROOT

LANGUAGES = {"de": "wordpiece", "ru": "unigram", "zh_Hans": "bpe"}


def fitted(text: dict[str, list[str]], teachers: list) -> tuple:
    """(the default tokenizer, {teacher: its tokenizer with merged ids}, the vocabulary)."""
    vocabulary = merge(teachers)
    words = [count_words("x", t, text[t.name], vocabulary.to_merged(t.name)) for t in teachers]
    remapped = {t.name: remap_tokenizer(t.hf, vocabulary.to_merged(t.name)) for t in teachers}
    backends = [tokenizer.backend_tokenizer for tokenizer in remapped.values()]
    return default_tokenizer(vocabulary, pa.concat_tables(words), backends, 64), remapped, vocabulary


def make_teachers(
    folder, text: dict[str, list[str]], families: dict[str, str], lowercase: str = "", size: int = 3000
) -> list:
    teachers = []
    for name, family in families.items():
        lines = [line.lower() for line in text[name]] if name == lowercase else text[name]
        tokenizer = world.make_tokenizer(family, lines, size)
        if name == lowercase:
            tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.save_pretrained(folder / name)
        teachers.append(load_tokenizer(name, TeacherConfig(model=str(folder / name), languages=["x"])))
    return teachers


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    text = {language: realtext.translations(language) for language in LANGUAGES}
    train = {language: lines[::2] + lines[1::4] for language, lines in text.items()}
    heldout = {language: lines[3::4] for language, lines in text.items()}
    teachers = make_teachers(tmp_path_factory.mktemp("real"), train, LANGUAGES)
    return *fitted(train, teachers), heldout


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.text(max_size=30), st.sampled_from(["A\u0301", "Ｆｕｌｌ，", "ﬁ", "a\u200db", "\ue000", "\x07", "👩‍🔬"])
    )
)
def test_nothing_is_unknown_that_a_teacher_could_encode(real, text):
    default, teachers, vocabulary, _ = real
    unknown = vocabulary.id_of("unknown")
    if any(unknown not in teacher(text)["input_ids"] for teacher in teachers.values()):
        assert unknown not in default(text)["input_ids"]


def test_without_byte_tokens_neither(tmp_path):
    """WordPiece and Unigram alone, one of them uncased: capitals, widths and controls as the teachers take them."""
    text = {language: realtext.translations(language) for language in ("de", "ru")}
    teachers = make_teachers(tmp_path, text, {"de": "wordpiece", "ru": "unigram"}, lowercase="de")
    default, remapped, vocabulary = fitted(text, teachers)
    unknown = vocabulary.id_of("unknown")
    # Capitals that only the uncased teacher knows how to write, and a lone character that only starts words.
    lines = [*text["de"], "ÄÖÜ ẞ", "\x07Zeit\ue000 a\u200db", "（Ж）", "Zeit\u00a0x\u3000y"]
    for line in lines:
        if any(unknown not in teacher(line)["input_ids"] for teacher in remapped.values()):
            assert unknown not in default(line)["input_ids"], line
    assert sum(unknown not in remapped["de"](line)["input_ids"] for line in lines) > len(lines) * 0.9


def test_words_are_mostly_segmented_as_by_their_teacher(real):
    """Held out, in three scripts and families; but the teachers are from 600 lines each, so the bar is low.

    The real bar is that of the slow test below.
    """
    default, teachers, _, heldout = real
    for language, lines in heldout.items():
        found = measure_drift(language, teachers[language], default, iter(lines))
        assert found.identical > 0.75 and 0.9 < found.default_fertility / found.teacher_fertility < 1.1, found


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
    """Every tenth chapter held out: nine words in ten as by their teacher, tokens a word within 5 %, none unknown."""
    train, heldout = {}, {}
    for language in families:
        lines = realtext.verses(language, ROOT / "demo" / "downloads")
        heldout[language] = [line for number, line in enumerate(lines) if number // 25 % 10 == 0]
        train[language] = [line for number, line in enumerate(lines) if number // 25 % 10]
    default, teachers, _ = fitted(train, make_teachers(tmp_path, train, families, size=8000))
    for language, lines in heldout.items():
        found = measure_drift(language, teachers[language], default, iter(lines))
        print(found)
        assert found.identical >= 0.9 and abs(found.default_fertility / found.teacher_fertility - 1) <= 0.05
        assert found.default_unknown * found.default_fertility <= found.teacher_unknown * found.teacher_fertility


def test_a_mask_disturbs_nothing_beside_it(real):
    """As the teachers' rows have it: what follows a mask without a space goes on, with one it starts a word."""
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


def test_berts_words_where_all_teachers_are_berts(tmp_path):
    text = {language: realtext.translations(language) for language in ("de", "fr")}
    teachers = make_teachers(tmp_path, text, {"de": "wordpiece", "fr": "wordpiece"})
    default, remapped, vocabulary = fitted(text, teachers)
    line = "Zeit (und Zeit), d'un coup."
    assert default(line)["input_ids"] == remapped["de"](line)["input_ids"]
    assert vocabulary.id_of("unknown") not in default(line)["input_ids"]


def test_chinese_among_berts_alone(tmp_path):
    """Each Chinese character is a word, so none is unknown that is in the vocabulary."""
    text = {language: realtext.translations(language) for language in ("de", "zh_Hans")}
    teachers = make_teachers(tmp_path, text, {"de": "wordpiece", "zh_Hans": "wordpiece"})
    default, remapped, _ = fitted(text, teachers)
    for line in [*text["zh_Hans"], "我去了 北京。Zeit，去"]:
        assert default(line)["input_ids"].count(default.unk_token_id) <= remapped["zh_Hans"](line)["input_ids"].count(
            default.unk_token_id
        ), line
    found = measure_drift("zh_Hans", remapped["zh_Hans"], default, iter(text["zh_Hans"]))
    assert found.identical > 0.9, found


def test_charsmap_is_what_the_table_says():
    table = {"Ж": "ж", "ﬁ": "fi", "\u200d": "", "，": ","}
    compiled = normalizers.Precompiled(compile_charsmap(table))
    text = "ЖЖж ﬁx a\u200db，c Æ"
    assert compiled.normalize_str(text) == "".join(table.get(character, character) for character in text)


def test_words_add_up(predictions, text):
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    words = read_words(str(predictions / "_words.parquet"), len(vocabulary)).to_pandas()
    tokenizers = read_tokenizers(str(predictions), vocabulary)
    for name, language in world.TEACHERS.items():
        own = words[words.teacher == name].set_index("word")
        lines = (text / f"{language}.txt").read_text().splitlines()
        assert own["count"].sum() == sum(len(line.split()) for line in lines)
        assert own["count"]["the"] == sum(line.split().count("the") for line in lines)
        assert own.language.unique().tolist() == [language]
        for word in own.index[:20]:
            # The small world's teachers segment a word alike wherever it stands.
            alone = tokenizers[name](word, add_special_tokens=False)["input_ids"]
            assert own.ids[word].tolist() == alone and max(alone) < len(vocabulary)


def test_tokens_of_spans():
    tokenizer = world.make_tokenizer("unigram", world.sentences("ru", 100)).backend_tokenizer
    line = " река  учитель,(море) "
    encoding = tokenizer.encode(line, add_special_tokens=False)
    spans = [(1, 5), (7, 15), (15, 21)]
    grouped = tokens_of_spans(line, encoding, spans)
    for (start, end), ids in zip(spans, grouped, strict=True):
        # A token's letters, or for a lone space mark the letter after it, lie within the span.
        inside = []
        for own, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
            letters = [i for i in range(first, last) if not line[i].isspace()]
            letters = letters or [i for i in range(last, len(line)) if not line[i].isspace()][:1]
            if any(start <= i < end for i in letters):
                inside.append(own)
        assert list(ids) == inside and inside


@pytest.mark.heavy
def test_report(predictions, text, tmp_path):
    files = [f"{language}={text / f'{language}.heldout.txt'}" for language in world.WORDS]
    arguments = [part for file in files for part in ("--text", file)]
    done = run("pipeline.drift", predictions, *arguments, "--json", tmp_path / "drift.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "drift.json").read_text())
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    default = AutoTokenizer.from_pretrained(predictions / DEFAULT_TOKENIZER)
    for name, language in world.TEACHERS.items():
        row = found["languages"][language]
        own = AutoTokenizer.from_pretrained(predictions / TEACHER_TOKENIZERS / name)
        lines = (text / f"{language}.heldout.txt").read_text().splitlines()
        words = sum(len(line.split()) for line in lines)
        assert (row["teacher"], row["words"]) == (name, words)
        for kind, tokenizer in (("teacher", own), ("default", default)):
            ids = [i for line in lines for i in tokenizer(line, add_special_tokens=False)["input_ids"]]
            assert row[f"{kind}_fertility"] == pytest.approx(len(ids) / words)
            assert row[f"{kind}_unknown"] == pytest.approx(ids.count(vocabulary.id_of("unknown")) / len(ids))
        # In this world a word is segmented alike wherever it stands.
        alike = [own(w, add_special_tokens=False)["input_ids"] == default(w, add_special_tokens=False)["input_ids"]
                 for line in lines for w in line.split()]  # fmt: skip
        assert row["identical"] == pytest.approx(np.mean(alike))
        assert f"{row['identical']:.1%}" in done.stdout
        for other in world.TEACHERS:
            shared = ((vocabulary.teacher_ids[name] >= 0) & (vocabulary.teacher_ids[other] >= 0)).sum()
            assert found["overlap"][name][other] == shared
    assert found["tokens"]["merged"] == len(vocabulary) < found["tokens"]["by_string"] < found["tokens"]["separate"]


def test_the_union_by_string_is_that_of_identity_string(predictions, run_pipeline, tmp_path):
    by_string = read_vocabulary(str(run_pipeline(tmp_path / "s", token_identity="string", top_k=0) / VOCABULARY_FILE))
    vocabulary = read_vocabulary(str(predictions / VOCABULARY_FILE))
    assert union_by_string(vocabulary, read_tokenizers(str(predictions), vocabulary)) == len(by_string)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such", "--text", "en=x"], "no/such/_manifest.json: not found"),
        (["{predictions}", "--text", "xx=x"], "--text xx=x: expected LANGUAGE=FILES with one of en, hi, ru"),
        (["{predictions}", "--text", "en"], "expected LANGUAGE=FILES"),
        (["{predictions}", "--text", "en=no/such.txt"], "no file matches 'no/such.txt'"),
    ],
)
def test_bad_arguments(predictions, arguments, message):
    done = call("pipeline.drift", *(argument.format(predictions=predictions) for argument in arguments))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_nfd_input(real):
    default, _, _, heldout = real
    for line in heldout["de"]:
        assert default(unicodedata.normalize("NFD", line))["input_ids"] == default(line)["input_ids"]
