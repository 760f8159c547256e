"""Where the default tokenizer cuts words depends on its teachers."""

from pipeline.drift import Drift, count_words
from tests.support import realtext
from tests.support.teachers import fitted, make_teachers


def test_berts_words_where_all_teachers_are_berts(tmp_path):
    text = {language: realtext.translations(language) for language in ("de", "fr")}
    teachers = make_teachers(tmp_path, text, {"de": "wordpiece", "fr": "wordpiece"})
    default, remapped, vocabulary = fitted(text, teachers)
    line = "Zeit (und Zeit), d'un coup."
    assert default(line)["input_ids"] == remapped["de"](line)["input_ids"]
    assert vocabulary.id_of("unknown") not in default(line)["input_ids"]


def test_chinese_among_berts_alone(tmp_path):
    """Each Chinese character is a word, so no character of the vocabulary is unknown."""
    text = {language: realtext.translations(language) for language in ("de", "zh_Hans")}
    teachers = make_teachers(tmp_path, text, {"de": "wordpiece", "zh_Hans": "wordpiece"})
    default, remapped, _ = fitted(text, teachers)
    for line in [*text["zh_Hans"], "我去了 北京。Zeit，去"]:
        assert default(line)["input_ids"].count(default.unk_token_id) <= remapped["zh_Hans"](line)["input_ids"].count(
            default.unk_token_id
        ), line
    actual = Drift.of("zh_Hans", count_words(remapped["zh_Hans"], default, iter(text["zh_Hans"])))
    assert actual.identical > 0.9, actual
