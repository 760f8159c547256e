"""Encodes pre-split words as a model's input, and maps words to tokens."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerFast

from trainer.evaluation.formats.labelled_words import Sentence
from trainer.evaluation.models import Model
from trainer.evaluation.pieces import cut
from trainer.evaluation.tasks.forward import Inputs, encode, rows_of

# The number of words of a tokenizer's own vocabulary to test.
_TRIED = 100


@dataclass(frozen=True)
class EncodedPiece:
    """A sentence, or a part of one that is too long, as input of a model.

    Attributes:
      sentence: its number.
      inputs: the model's.
      tokens: by word of the sentence, the positions of its tokens in the piece.
    """

    sentence: int
    inputs: Inputs
    tokens: dict[int, list[int]]


def encode_sentences(model: Model, language: str, sentences: Sequence[Sentence], max_length: int) -> list[EncodedPiece]:
    """Encodes sentences with the model's tokenizer of a language.

    Sentences of more than `max_length` tokens, or than the model's limit, are cut at words into as few pieces as possible.
    A word that the tokenizer drops is in no piece; only a word that is longer than a piece is cut off.
    """
    tokenizer = model.tokenizer(language)
    space = " " if _wants_space(tokenizer) else ""
    limit = min(max_length, model.max_length)
    words_S = [[space + word for word in sentence.words] for sentence in sentences]
    whole = encode(model, tokenizer, words_S, is_split_into_words=True, truncation=False, verbose=False)
    pieces = [
        (number, words) for number in range(len(sentences)) for words in _words_of_pieces(whole.word_ids(number), limit)
    ]
    if not pieces:
        return []
    texts = [[words_S[number][word] for word in words] for number, words in pieces]
    encoded = encode(model, tokenizer, texts, is_split_into_words=True, max_length=limit)
    result = []
    for row, ((number, words), inputs) in enumerate(zip(pieces, rows_of(encoded), strict=True)):
        tokens: dict[int, list[int]] = {}
        for position, place in enumerate(encoded.word_ids(row)):
            if place is not None:
                tokens.setdefault(words[place], []).append(position)
        result.append(EncodedPiece(number, inputs, tokens))
    return result


def _words_of_pieces(word_ids: Sequence[int | None], limit: int) -> list[list[int]]:
    """Returns the words of each piece, without those that have no token.

    Args:
      word_ids: the word of each token of the whole sentence; None for special tokens.
      limit: tokens of a piece, special ones included.
    """
    lengths = Counter(word for word in word_ids if word is not None)
    room = limit - (len(word_ids) - lengths.total())
    words = iter(lengths)
    return [list(islice(words, len(piece))) for piece in cut([min(length, room) for length in lengths.values()], room)]


def _wants_space(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Returns whether separate words need a space in front to be split as in running text.

    Byte-level tokenizers without `add_prefix_space` need it, such as RoBERTa's as published, and those that leave the space
    to the normalizer, such as Gemma's. Tested with words of the tokenizer's own vocabulary.
    """
    words = []
    for token_id in sorted(tokenizer.get_vocab().values()):
        word = str(tokenizer.decode([token_id])).strip()
        if word.isalpha() and token_id not in tokenizer.all_special_ids:
            words.append(word)
        if len(words) == _TRIED:
            break
    differences = sum(
        tokenizer([word, word], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        != tokenizer(f"{word} {word}", add_special_tokens=False)["input_ids"]
        for word in words
    )
    return differences > len(words) / 2
