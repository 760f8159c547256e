"""Encodes pre-split words as a model's input, and maps words to tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from trainer.evaluation.formats.labelled_words import Sentence
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.forward import Inputs, encode, rows_of

# The number of words of a tokenizer's own vocabulary to test.
_TRIED = 100


@dataclass(frozen=True)
class EncodedSentence:
    """A sentence as input of a model.

    Attributes:
      inputs: the model's.
      tokens: by word, the positions of its tokens, without words that are cut off or dropped by the tokenizer.
    """

    inputs: Inputs
    tokens: dict[int, list[int]]


def encode_sentences(
    model: Model, language: str, sentences: Sequence[Sentence], max_length: int
) -> list[EncodedSentence]:
    """Encodes sentences with the model's tokenizer of a language, cut to `max_length` or the model's limit."""
    tokenizer = model.tokenizer(language)
    space = " " if _wants_space(tokenizer) else ""
    encoded = encode(
        model,
        tokenizer,
        [[space + word for word in sentence.words] for sentence in sentences],
        is_split_into_words=True,
        max_length=min(max_length, model.max_length),
    )
    result = []
    for row, inputs in enumerate(rows_of(encoded)):
        tokens: dict[int, list[int]] = {}
        for position, word in enumerate(encoded.word_ids(row)):
            if word is not None:
                tokens.setdefault(word, []).append(position)
        result.append(EncodedSentence(inputs, tokens))
    return result


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
