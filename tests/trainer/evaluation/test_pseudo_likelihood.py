"""Pseudo-likelihoods, compared with a plain loop: one masked variant at a time, all logits."""

import math
import unicodedata

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM

from schemas.errors import UserError
from tests.support import world
from tests.support.architectures import tiny
from tests.support.teachers import broken_teacher
from trainer.evaluation.config import ModelConfig
from trainer.evaluation.models import Model
from trainer.evaluation.pseudo_likelihood import UNKNOWN_BITS, score_texts

TEXTS = [
    "the river sings; a teacher, remembers",
    "it's",
    "the sea",
    "река",
    "the the (the sea) 1999 writeremembering",
    "учитель, поёт песню.",
    "नदी लिखता है",
    "我去了 東京 the sea",
    "é e\u0301 😀",
]


def plain_bits(folder, text):
    """Written directly from the paper: words are separated by white space, and each ideograph is a word."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    inner = [at for at in range(len(encoded["input_ids"])) if at not in (0, len(encoded["input_ids"]) - 1)]
    word_of, word = {}, 0
    for at, character in enumerate(text):
        if character.isspace():
            word += 1
        else:
            word += character in "我去了東京"
            word_of[at] = word
            word += character in "我去了東京"
    words = {}
    for at in inner:
        covered = [word_of[c] for c in range(*encoded["offset_mapping"][at]) if c in word_of]
        words[at] = set(covered)
    for at in reversed(inner):
        words[at] = words[at] or words[at + 1]
    bits = 0.0
    for at in inner:
        masked = [at]
        reach = set(words[at])
        for later in inner:
            if later > at and words[later] & reach:
                masked.append(later)
                reach |= words[later]
        ids = torch.tensor([encoded["input_ids"]])
        label = ids[0, at].item()
        ids[0, masked] = tokenizer.mask_token_id
        with torch.no_grad():
            bits -= model(input_ids=ids).logits[0, at].log_softmax(0)[label].item() / math.log(2)
    hidden = {
        c
        for at in inner
        if encoded["input_ids"][at] == tokenizer.unk_token_id
        for c in range(*encoded["offset_mapping"][at])
        if c in word_of
    }
    unknown = unicodedata.normalize("NFC", "".join(text[c] for c in sorted(hidden)))
    return bits + math.log2(0x110000) * len(unknown)


def load(folder):
    return Model("m", ModelConfig(model=str(folder)), torch.device("cpu"))


@pytest.mark.parametrize("teacher", world.TEACHERS)
def test_scores_are_those_of_a_plain_loop(teachers, teacher):
    model = load(teachers / teacher)
    texts = [text for text in TEXTS if len(model.tokenizer(None)(text)["input_ids"]) <= world.MAX_LENGTH]
    assert len(texts) >= 5
    scores = score_texts(texts, model, "x", 128, 64)
    expected = [plain_bits(teachers / teacher, text) for text in texts]
    assert scores.bits_N == pytest.approx(expected, rel=1e-5)
    assert scores.characters_N.tolist() == [len(unicodedata.normalize("NFC", text)) for text in texts]


def test_batches_do_not_matter(teachers):
    model = load(teachers / "en-wordpiece")
    texts = world.sentences("en", 30)
    expected = score_texts(texts, model, "x", 128, 1).bits_N
    assert score_texts(texts, model, "x", 128, 4096).bits_N == pytest.approx(expected, rel=1e-5)


def test_pieces_of_a_text_sum_up(teachers):
    model = load(teachers / "en-wordpiece")
    # 4 tokens per repetition and room for 10 per piece, so that all pieces have two repetitions.
    whole, part = (" ".join(["the river sings;"] * count) for count in (6, 2))
    assert len(model.tokenizer(None)(part, add_special_tokens=False)["input_ids"]) == 8
    bits, alone = score_texts([whole, part], model, "x", 12, 64).bits_N
    assert bits == pytest.approx(3 * alone, rel=1e-5)


def test_unknown_tokens_cost_the_spelling_of_what_they_hide(teachers):
    model = load(teachers / "en-wordpiece")
    one, three = score_texts(["the 東 sea", "the 東京川 sea"], model, "x", 128, 64).bits_N
    scores = score_texts(["the 東京川 sea"], model, "x", 128, 64)
    assert scores.unknown_N.tolist() == [3]
    assert three - one > UNKNOWN_BITS


def test_a_model_that_padding_reaches_is_scored_as_alone(teachers, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    tiny("convbert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = TEXTS[:3]
    scores = score_texts(texts, load(tmp_path), "x", 128, 4096)
    assert scores.bits_N == pytest.approx([plain_bits(tmp_path, text) for text in texts], rel=1e-5)


def test_probabilities_that_are_not_finite_are_one_line(teachers, tmp_path):
    broken_teacher(teachers, tmp_path, value=1e38)
    with pytest.raises(UserError, match=r"models.m: gives NaN or infinite probabilities for text of en"):
        score_texts(["the sea", "a teacher"], load(tmp_path), "en", 128, 64)


def test_text_without_tokens_costs_nothing(teachers):
    scores = score_texts(["\u200b", "the sea"], load(teachers / "en-wordpiece"), "x", 128, 64)
    assert scores.bits_N[0] == 0 and scores.changed_N.tolist() == [1, 0]


def test_no_logits_are_made_at_other_positions(teachers, monkeypatch):
    rows = []
    forward = BertForMaskedLM.forward

    def spied(self, *arguments, **named):
        output = forward(self, *arguments, **named)
        rows.append((named["input_ids"].numel(), output.logits.shape[:-1].numel()))
        return output

    model = load(teachers / "en-wordpiece")
    monkeypatch.setattr(BertForMaskedLM, "forward", spied)
    score_texts(world.sentences("en", 10), model, "x", 128, 256)
    batches = rows[-3:]
    assert all(logits * 5 <= tokens for tokens, logits in batches)
