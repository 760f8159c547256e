"""A small world for tests: text in three scripts, and a tiny teacher of each family."""

import itertools
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

WORDS = {
    "en": ["the river", "a teacher,", "my house", "(the sea)", "writes", "remembers", "sings;", "a 1999 song.", "it's"],
    "ru": ["река", "учитель,", "мой дом", "(море)", "пишет", "помнит", "поёт;", "песню.", "the Волга", "the 1999"],
    "hi": ["नदी", "शिक्षक,", "मेरा घर", "(समुद्र)", "लिखता है", "याद करता है", "गाता;", "गीत।", "the गंगा", "😀"],
}
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEACHERS = {"en-wordpiece": "en", "ru-unigram": "ru", "hi-bpe": "hi"}
MAX_LENGTH = 24


def sentences(language: str, count: int) -> list[str]:
    """Returns `count` different lines of a language, the same on every call."""
    source = random.Random(language)
    return list(
        itertools.islice(
            dict.fromkeys(" ".join(source.choices(WORDS[language], k=source.randint(2, 30))) for _ in range(count * 2)),
            count,
        )
    )


def make_tokenizer(family: str, lines: list[str], size: int = 200) -> PreTrainedTokenizerFast:
    """Returns a real tokenizer of `family`, trained on `lines`."""
    common = {"vocab_size": size, "show_progress": False}
    if family == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(special_tokens=BERT_SPECIALS, **common)
    elif family == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(special_tokens=ROBERTA_SPECIALS, unk_token="<unk>", **common)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            special_tokens=ROBERTA_SPECIALS, initial_alphabet=alphabet, **common | {"vocab_size": size + 256}
        )
    tokenizer.train_from_iterator(lines, trainer)
    cls, sep, pad, unk, mask = (
        ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
        if family == "wordpiece"
        else ("<s>", "</s>", "<pad>", "<unk>", "<mask>")
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B {sep}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token=cls, sep_token=sep, pad_token=pad, unk_token=unk, mask_token=mask
    )


def make_teacher(name: str, folder: Path, seed: int = 0) -> None:
    """Makes a tiny random teacher of the family that `name` ends in, in the Hugging Face layout."""
    language, family = name.split("-")
    tokenizer = make_tokenizer(family, sentences(language, 300))
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": MAX_LENGTH + 2,
        # Large enough for predictions to differ from token to token.
        "initializer_range": 0.5,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config, model = {
        "wordpiece": (BertConfig, BertForMaskedLM),
        "unigram": (XLMRobertaConfig, XLMRobertaForMaskedLM),
        "bpe": (RobertaConfig, RobertaForMaskedLM),
    }[family]
    torch.manual_seed(seed)
    model(config(**shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
