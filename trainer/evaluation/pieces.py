"""Turns texts into the sequences that a model scores: tokenized, cut at words if too long, with special tokens around them.

Legend: N texts, P pieces, T tokens of all pieces, concatenated, special tokens included; G groups of one text's words.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

import numpy as np
from transformers import PreTrainedTokenizerFast

from schemas.errors import UserError
from schemas.ragged import ranges
from trainer.evaluation.words import words_of_characters, words_of_tokens


@dataclass(frozen=True)
class Pieces:
    """N texts as P pieces, int64 throughout.

    Attributes:
      ids_T: token ids.
      starts_T, ends_T: the characters of its text that each token stands for, start inclusive and end exclusive; -1 for the
        special tokens around it.
      word_ends_T: the position in its piece at which the word of each token ends, 0 for the special tokens around it.
      lengths_P: tokens.
      text_P: the text of each piece, ascending.
      characters_N: characters in NFC, white space included.
      unknown_N: characters in NFC that unknown tokens stand for.
      changed_N: characters in NFC that are missing when the tokens are decoded, without white space and unknown ones.
    """

    ids_T: np.ndarray
    starts_T: np.ndarray
    ends_T: np.ndarray
    word_ends_T: np.ndarray
    lengths_P: np.ndarray
    text_P: np.ndarray
    characters_N: np.ndarray
    unknown_N: np.ndarray
    changed_N: np.ndarray


def make_pieces(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int) -> Pieces:
    """Tokenizes texts, and cuts those of more than `max_length` tokens at words into as few pieces as possible.

    The pieces of a text are about equally long, so that none is a stub without context. A word that is longer than a piece
    is cut too.

    Raises:
      UserError: the tokenizer puts anything but fixed special tokens around sequences.
    """
    prefix, suffix = special_frame(tokenizer)
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        # Text that spells out a special token stays text.
        split_special_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids, offsets, word_ends, lengths, text_P, counts = [], [], [], [], [], []
    for number, text in enumerate(texts):
        text_ids = np.array(encoded["input_ids"][number], np.int64)
        offsets_T2 = np.array(encoded["offset_mapping"][number], np.int64).reshape(-1, 2)
        starts, ends = offsets_T2.T
        words_C = words_of_characters(text)
        counts.append(_counts(text, words_C, text_ids, starts, ends, tokenizer))
        lengths_G = np.bincount(words_of_tokens(words_C, starts, ends))
        first = 0
        for piece_G in cut(lengths_G.tolist(), max_length - len(prefix) - len(suffix)):
            last = first + sum(piece_G)
            ids += [prefix, text_ids[first:last], suffix]
            offsets += [np.full((len(prefix), 2), -1), offsets_T2[first:last], np.full((len(suffix), 2), -1)]
            ends_G = np.cumsum(piece_G) + len(prefix)
            word_ends += [np.zeros_like(prefix), np.repeat(ends_G, piece_G), np.zeros_like(suffix)]
            lengths.append(len(prefix) + last - first + len(suffix))
            text_P.append(number)
            first = last
    empty = np.empty(0, np.int64)
    starts_T, ends_T = np.concatenate([empty.reshape(0, 2), *offsets]).T
    return Pieces(
        np.concatenate([empty, *ids]),
        starts_T,
        ends_T,
        np.concatenate([empty, *word_ends]),
        np.array(lengths, np.int64),
        np.array(text_P, np.int64),
        *np.array(counts, np.int64).reshape(-1, 3).T,
    )


def cut(lengths_G: Sequence[int], room: int) -> list[list[int]]:
    """Returns the lengths of the groups in each piece, in order.

    There are as few pieces of at most `room` as possible, and the longest is as short as possible. A group of more than
    `room` is cut.
    """
    lengths = [part for length in lengths_G for part in [room] * (length // room) + [length % room] if part]
    if sum(lengths) <= room:
        return [lengths] if lengths else []
    fewest = len(_filled(lengths, room))
    limits = range(max(lengths), room + 1)
    return _filled(lengths, limits[bisect_left(limits, True, key=lambda limit: len(_filled(lengths, limit)) <= fewest)])


def special_frame(tokenizer: PreTrainedTokenizerFast) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids before and after a sequence. Raises UserError if they are not the same for all sequences."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = tokenizer("a", return_special_tokens_mask=True)
    # Found by the mask, not by searching for the ids of the text: they may be unknown tokens, which are special too.
    start = framed["special_tokens_mask"].index(0) if 0 in framed["special_tokens_mask"] else 0
    if not bare or framed["input_ids"][start : start + len(bare)] != bare:
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer does not simply put fixed special tokens around a sequence; it cannot "
            "be evaluated"
        )
    return (
        np.array(framed["input_ids"][:start], np.int64),
        np.array(framed["input_ids"][start + len(bare) :], np.int64),
    )


def _filled(lengths: list[int], limit: int) -> list[list[int]]:
    """Fills each piece with as many groups as fit."""
    pieces: list[list[int]] = []
    size = limit
    for length in lengths:
        if size + length > limit:
            pieces.append([])
            size = 0
        pieces[-1].append(length)
        size += length
    return pieces


def _counts(
    text: str,
    words_C: np.ndarray,
    ids: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    tokenizer: PreTrainedTokenizerFast,
) -> tuple[int, int, int]:
    """Returns (characters, unknown ones, changed ones) of one text."""
    is_unknown = ids == tokenizer.unk_token_id
    unknown_C = np.zeros(len(text), bool)
    unknown_C[ranges(starts[is_unknown], (ends - starts)[is_unknown])] = True
    unknown_C &= words_C >= 0
    known = "".join(np.array(list(text), object)[~unknown_C])
    unknown = "".join(np.array(list(text), object)[unknown_C])
    decoded = str(tokenizer.decode(ids[~is_unknown].tolist(), clean_up_tokenization_spaces=False))
    lost = Counter("".join(normalize("NFC", known).split())) - Counter(normalize("NFC", decoded))
    return len(normalize("NFC", text)), len(normalize("NFC", unknown)), lost.total()
