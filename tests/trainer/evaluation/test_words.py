"""Words are those of the text, whatever the tokenizer."""

import numpy as np
import pytest

from trainer.evaluation.words import words_of_characters, words_of_tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n", []),
        ("Hello, it's  an e-mail\u00a0x.\n", ["Hello,", "it's", "an", "e-mail", "x."]),
        ("我去了GPU 加速。", ["我", "去", "了", "GPU", "加", "速", "。"]),
        ("コーヒーが か\u3099", ["コ", "ー", "ヒ", "ー", "が", "か\u3099"]),
        ("ไม่มี ที่", ["ไ", "ม่", "มี", "ที่"]),
        ("नदी 한국어 👩‍🔬😀", ["नदी", "한국어", "👩‍🔬😀"]),
    ],
)
def test_words_of_text(text, words):
    numbers = words_of_characters(text)
    assert len(numbers) == len(text)
    assert ["".join(c for c, n in zip(text, numbers, strict=True) if n == w) for w in range(len(words))] == words
    assert numbers.max(initial=-1) == len(words) - 1


@pytest.mark.parametrize(
    ("text", "tokens", "groups"),
    [
        # Offsets of WordPiece, byte-level BPE without trimmed offsets, and SentencePiece.
        ("it's a river", [(0, 2), (2, 3), (3, 4), (5, 6), (7, 10), (10, 12)], [0, 0, 0, 1, 2, 2]),
        ("it's a river", [(0, 4), (4, 6), (6, 12)], [0, 1, 2]),
        (" 東京 tower", [(0, 1), (1, 3), (3, 6), (6, 9)], [0, 0, 1, 1]),
        # Three bytes of one character; then a token that spans two words, and one that continues the second.
        ("が a bc", [(0, 1), (0, 1), (0, 1), (1, 5), (5, 6)], [0, 0, 0, 1, 1]),
        # Each character is a word, and some tokens span several.
        ("我去了北京", [(0, 1), (1, 3), (3, 4), (4, 5)], [0, 1, 2, 3]),
        ("我去了北京", [(0, 2), (1, 3), (3, 5)], [0, 0, 1]),
        # Tokens without characters and tokens of white space, before, within and after words.
        ("  ab c ", [(0, 0), (0, 2), (2, 3), (3, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 7)], [0, 0, 0, 0, 0, 1, 1, 2, 2]),
        (" ", [(0, 1)], [0]),
        ("a", [], []),
    ],
)  # fmt: skip
def test_words_of_tokens(text, tokens, groups):
    starts_T, ends_T = np.array(tokens, np.int64).reshape(-1, 2).T
    assert words_of_tokens(words_of_characters(text), starts_T, ends_T).tolist() == groups
