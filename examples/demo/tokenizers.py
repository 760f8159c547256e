"""One new tokenizer of each family, as a plain Hugging Face folder.

`python -m examples.demo.tokenizers FAMILY SIZE FOLDER FILE...` makes one.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BERT_SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
# As in RoBERTa, the mask includes the space before it, like the word that it replaces.
ROBERTA_MASK = AddedToken("<mask>", lstrip=True, special=True)
ROBERTA_SPECIALS = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": ROBERTA_MASK}
SENTENCE_END = re.compile(r"(?<=[.!?;。！？；])\s*|\n")


def make_tokenizer(family: str, files: list[Path], vocabulary_size: int, folder: Path) -> None:
    """Trains a tokenizer of `family` (`wordpiece`, `unigram` or `bpe`) on text files; replaces an earlier one."""
    specials = BERT_SPECIALS if family == "wordpiece" else ROBERTA_SPECIALS
    tokenizer, trainer = FAMILIES[family](vocabulary_size, list(specials.values()))
    # Split into sentences, because a line is a chapter and the Unigram trainer is slow on long text without spaces.
    sentences = [part for file in files for part in SENTENCE_END.split(file.read_text(encoding="utf-8"))]
    tokenizer.train_from_iterator(sentences, trainer)
    cls, sep = specials["cls"], specials["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B {sep}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    names = {f"{name}_token": token for name, token in specials.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    print(f"tokenizers: {folder.name}: {tokenizer.get_vocab_size():,} tokens")


def _wordpiece(size: int, specials: list[str | AddedToken]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token=BERT_SPECIALS["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=size, special_tokens=specials, show_progress=False)


def _unigram(size: int, specials: list[str | AddedToken]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=size, special_tokens=specials, unk_token=ROBERTA_SPECIALS["unk"], show_progress=False
    )


def _bpe(size: int, specials: list[str | AddedToken]) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return tokenizer, trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )


FAMILIES: dict[str, Callable[[int, list[str | AddedToken]], tuple[Tokenizer, trainers.Trainer]]] = {
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "bpe": _bpe,
}


def main(family: str, size: str, folder: str, *files: str) -> None:
    """Runs the command."""
    make_tokenizer(family, [Path(file) for file in files], int(size), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
