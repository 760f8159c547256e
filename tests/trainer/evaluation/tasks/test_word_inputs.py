"""Pre-split words as input, for tokenizers of all families."""

import pytest
from tokenizers import pre_tokenizers

from tests.support import families, world
from tests.support.labelled import evaluation, load_model, make_student
from trainer.evaluation.formats.labelled_words import Sentence
from trainer.evaluation.tasks.word_inputs import encode_sentences


def sentence(*words: str) -> Sentence:
    return Sentence(list(words), ["X"] * len(words), "a.tsv", list(range(1, len(words) + 1)))


def encode(folder, *words: str, language: str = "en", max_length: int = 24):
    model = load_model(evaluation(folder, models={"m": {"model": str(folder)}}), "m")
    (encoded,) = encode_sentences(model, language, [sentence(*words)], max_length)
    return encoded, model.tokenizer(language)


@pytest.mark.parametrize("name", world.TEACHERS)
def test_the_tokens_are_those_of_the_running_text(teachers, name):
    words = world.sentences(world.TEACHERS[name], 3)[2].split()[:3]
    encoded, tokenizer = encode(teachers / name, *words)
    assert encoded.inputs["input_ids"] == tokenizer(" ".join(words))["input_ids"]
    assert sorted(encoded.tokens) == list(range(len(words)))
    for word, tokens in encoded.tokens.items():
        ids = [encoded.inputs["input_ids"][token] for token in tokens]
        assert tokenizer.decode(ids).replace(" ", "") == words[word]


def test_a_byte_level_tokenizer_without_a_space_before_its_text_gets_one_before_each_word(tmp_path, teachers):
    """RoBERTa's is published like this; without the space, every word would be cut as the continuation of one."""
    world.make_teacher("en-bpe", tmp_path)
    tokenizer = load_model(evaluation(tmp_path, models={"m": {"model": str(tmp_path)}}), "m").tokenizer("en")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save_pretrained(tmp_path)
    encoded, tokenizer = encode(tmp_path, "the", "river", "writes,")
    assert tokenizer.tokenize("river") != tokenizer.tokenize(" river")
    assert encoded.inputs["input_ids"] == tokenizer(" the river writes,")["input_ids"]
    assert list(encoded.tokens) == [0, 1, 2]


@pytest.mark.parametrize("family", [families.gemma, families.hplt, families.herbert, families.words])
def test_tokenizers_of_other_families_cut_words_as_in_running_text(tmp_path, family):
    world.make_teacher("en-wordpiece", tmp_path)
    families.make_teacher(tmp_path, "m", family())
    encoded, tokenizer = encode(tmp_path, "teacher", "writes", "river")
    assert encoded.inputs["input_ids"][-3:] == tokenizer("teacher writes river")["input_ids"][-3:]
    assert list(encoded.tokens) == [0, 1, 2]


def test_a_student_reads_each_language_with_its_own_tokenizer(tmp_path, teachers):
    folder = make_student(tmp_path, teachers)
    for name, language in world.TEACHERS.items():
        words = world.sentences(language, 2)[1].split()[:3]
        encoded, of_student = encode(folder, *words, language=language)
        of_teacher, tokenizer = encode(teachers / name, *words, language=language)
        assert encoded.tokens == of_teacher.tokens
        assert of_student.convert_ids_to_tokens(encoded.inputs["input_ids"][1:-1]) == tokenizer.convert_ids_to_tokens(
            of_teacher.inputs["input_ids"][1:-1]
        )


def pieces_of(folder, *words: str, max_length: int):
    model = load_model(evaluation(folder, models={"m": {"model": str(folder)}}), "m")
    return encode_sentences(model, "en", [sentence("sea"), sentence(*words)], max_length)[1:], model.tokenizer("en")


@pytest.mark.parametrize("name", ["en-wordpiece", "en-bpe"])
def test_long_sentences_are_cut_at_words(name, tmp_path):
    """Every word is whole in one piece, in order, and no piece is a stub."""
    world.make_teacher(name, tmp_path)
    words = ("river writes a teacher " * 10).split()
    pieces, tokenizer = pieces_of(tmp_path, *words, max_length=10)
    assert {piece.sentence for piece in pieces} == {1}
    assert [word for piece in pieces for word in piece.tokens] == list(range(40))
    lengths = []
    for piece in pieces:
        text = " ".join(words[word] for word in piece.tokens)
        assert piece.inputs["input_ids"] == tokenizer(text)["input_ids"]
        assert sorted(token for tokens in piece.tokens.values() for token in tokens) == list(
            range(1, len(piece.inputs["input_ids"]) - 1)
        )
        lengths.append(len(piece.inputs["input_ids"]))
    assert max(lengths) <= 10 and min(lengths) >= 5


def test_only_a_word_longer_than_a_piece_is_cut_off(teachers):
    pieces, _ = pieces_of(teachers / "en-wordpiece", "river", "rivers" * 6, "sea", max_length=10)
    assert [list(piece.tokens) for piece in pieces] == [[0], [1], [2]]
    assert [len(piece.inputs["input_ids"]) for piece in pieces][1] == 10


def test_a_word_without_a_token_is_in_no_piece(teachers):
    assert pieces_of(teachers / "en-wordpiece", "", "\u00a0", max_length=10)[0] == []
    (piece,), _ = pieces_of(teachers / "en-wordpiece", "sea", "", "\u00a0", "sea", max_length=10)
    assert list(piece.tokens) == [0, 3]


def test_no_more_tokens_than_the_model_reads(teachers):
    pieces, _ = pieces_of(teachers / "hi-bpe", *["river"] * 40, max_length=1000)
    assert {len(piece.inputs["input_ids"]) for piece in pieces} <= set(range(world.MAX_LENGTH + 1))
    assert [word for piece in pieces for word in piece.tokens] == list(range(40))
