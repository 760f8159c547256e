"""Words of a text, independent of any tokenizer, and which tokens belong to the same words.

Legend: C characters of a text, W its words, T its tokens.
"""

import numpy as np
from tokenizers import Regex, pre_tokenizers

from schemas.ragged import ranges

# White space separates words. In scripts written without it, each character with its combining marks is a word, because
# tokenizers disagree on where their words begin.
_SPLIT = pre_tokenizers.Sequence(
    [
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Split(
            Regex(
                r"[\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]\p{M}*"
            ),
            "isolated",
        ),
    ]
)


def words_of_characters(text: str) -> np.ndarray:
    """Returns int64 [C]: the number of each character's word, ascending from 0; -1 for white space."""
    spans = [span for _, span in _SPLIT.pre_tokenize_str(text)]
    starts_W, ends_W = np.array(spans, np.int64).reshape(-1, 2).T
    words_C = np.full(len(text), -1, np.int64)
    words_C[ranges(starts_W, ends_W - starts_W)] = np.repeat(np.arange(len(spans)), ends_W - starts_W)
    return words_C


def words_of_tokens(words_C: np.ndarray, starts_T: np.ndarray, ends_T: np.ndarray) -> np.ndarray:
    """Returns int64 [T]: the number of each token's group of words, ascending from 0 without gaps.

    Tokens of one word are in one group. A token that spans several words joins them into one group. A token of only white
    space, or of no character, belongs to the word that follows.

        text     " 東京 tower"
        words    - 0 1 - 2..
        tokens   "▁" "東京" "▁to" "wer"
        groups    0    0      1     1

    Args:
      words_C: as `words_of_characters` returns them.
      starts_T, ends_T: the characters that each token stands for, as in the offsets of tokenizers.
    """
    beyond = int(words_C.max(initial=-1)) + 1
    # For each character: the first word that begins there or ends later, and the last word that began before.
    next_C = np.append(np.minimum.accumulate(np.where(words_C < 0, beyond, words_C)[::-1])[::-1], beyond)
    last_C = np.append(-1, np.maximum.accumulate(words_C))
    first_T, final_T = next_C[starts_T], last_C[ends_T]
    has_none_T = (first_T > final_T) | (starts_T >= ends_T)
    first_T = np.minimum.accumulate(np.where(has_none_T, beyond, first_T)[::-1])[::-1]
    final_T = np.maximum.accumulate(np.where(has_none_T, first_T, final_T))
    begins_T = first_T > np.append(-1, final_T[:-1])[: len(first_T)]
    return np.cumsum(begins_T) - 1
