"""A fast tokenizer for ESM's vocabularies of amino acids, for which transformers has only Python code."""

import re

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase


def from_characters(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Makes the fast form of an `EsmTokenizer`.

    It cuts text at every token of its vocabulary, longest first, and at spaces. The text left between
    them is unknown.
    """
    vocabulary = tokenizer.get_vocab()
    special = tokenizer.added_tokens_decoder
    ordinary = sorted(vocabulary.keys() - {token.content for token in special.values()}, key=len, reverse=True)
    result = Tokenizer(models.WordLevel(vocabulary, unk_token=tokenizer.unk_token))
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join(map(re.escape, ordinary))), "isolated"),
            pre_tokenizers.WhitespaceSplit(),
        ]
    )
    result.add_special_tokens([token for _, token in sorted(special.items())])
    cls, eos = tokenizer.cls_token, tokenizer.eos_token
    result.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {eos}",
        pair=f"{cls} $A {eos} $B {eos}",
        special_tokens=[(cls, tokenizer.cls_token_id), (eos, tokenizer.eos_token_id)],
    )
    return result
