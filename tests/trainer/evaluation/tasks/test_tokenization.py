"""How tokenizers cut words."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.support import world
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.task import Job
from trainer.evaluation.tasks.tokenization import Tokenization, whole_words
from trainer.evaluation.words import words_of_characters


def scored(folder, lines, tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(lines) + "\n")
    config = EvaluationConfig(
        output=str(tmp_path), models={"m": {"model": str(folder)}}, text={"x": [str(tmp_path / "x.txt")]}, max_length=16
    )
    model = Model("m", config.models["m"], torch.device("cpu"))
    (scores,) = Tokenization.from_config(config).run(Job("tokenization", "m", "x"), model)
    return scores


@pytest.mark.parametrize("name", world.TEACHERS)
def test_figures_are_those_of_a_plain_count(teachers, tmp_path, name):
    """The text has white space between words and is tokenized word by word."""
    tokenizer = AutoTokenizer.from_pretrained(teachers / name)
    lines = world.sentences(world.TEACHERS[name], 30)
    scores = scored(teachers / name, lines, tmp_path)
    for number, line in enumerate(lines):
        words = line.split()
        cut = [tokenizer.tokenize(word if word == words[0] else f" {word}") for word in words]
        assert scores.ratios["tokens_per_word"].denominators_U[number] == len(words)
        assert scores.ratios["tokens_per_word"].numerators_U[number] == sum(map(len, cut))
        # A tokenizer may mark the start of a word with a separate token.
        whole = [[t for t in tokens if t not in "▁Ġ"] for tokens in cut]
        assert scores.ratios["whole_words"].numerators_U[number] == sum(
            len(tokens) == 1 and tokens != [tokenizer.unk_token] for tokens in whole
        )
    assert scores.ratios["unknown_rate"].value == 0


def test_unknown_words_are_not_whole(tmp_path):
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "[MASK]": 1, "river": 2, "the": 3, "##s": 4}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(single="[MASK] $A [MASK]", special_tokens=[("[MASK]", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", mask_token="[MASK]")
    tokenizer.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "bert"}')
    scores = scored(tmp_path / "m", ["The rivers", "the 東京 river, the"], tmp_path)
    assert scores.ratios["tokens_per_word"].numerators_U.tolist() == [3, 6]
    assert scores.ratios["tokens_per_word"].denominators_U.tolist() == [2, 5]
    # "rivers" and "river," are two tokens each; the two characters of 東京 are unknown.
    assert scores.ratios["whole_words"].numerators_U.tolist() == [1, 2]
    assert scores.ratios["unknown_rate"].numerators_U.tolist() == [0, 3]
    assert scores.figures["bytes_per_token"] == (10 + 21) / (3 + 2 + 6 + 2)


def test_one_token_may_hold_several_words():
    words_C = words_of_characters("我去了 ab")
    starts, ends = np.array([0, 2, 3]), np.array([2, 3, 6])
    assert whole_words(words_C, starts, ends, np.array([True, True, True])) == 4
    assert whole_words(words_C, starts, ends, np.array([False, True, True])) == 2
    # Two tokens are bytes of one character.
    assert whole_words(words_C, np.array([0, 0, 1]), np.array([1, 1, 3]), np.array([True, True, True])) == 2
