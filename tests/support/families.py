"""Tokenizers of families beyond WordPiece with ##, SentencePiece and byte-level BPE."""

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from pipeline.config import TeacherConfig
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary import identity
from tests.support import world

LINES = world.sentences("en", 150) + world.sentences("ru", 150)


def hplt() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        LINES,
        trainers.WordPieceTrainer(
            vocab_size=500, special_tokens=world.BERT_SPECIALS, continuing_subword_prefix="",
            initial_alphabet=alphabet, show_progress=False,
        ),
    )  # fmt: skip
    return tokenizer


def herbert() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=world.BERT_SPECIALS, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def gemma() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=world.BERT_SPECIALS, show_progress=False)
    tokenizer.train_from_iterator((word for line in LINES for word in line.replace(" ", " ▁").split(" ")), trainer)
    return tokenizer


def words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(LINES, trainers.WordLevelTrainer(special_tokens=world.BERT_SPECIALS))
    return tokenizer


def characters() -> Tokenizer:
    vocabulary = [*world.BERT_SPECIALS, *"LAGVSERTIDPKQNFYMHWCXBUZO.-"]
    tokenizer = Tokenizer(
        models.WordLevel({token: token_id for token_id, token in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    return tokenizer


FAMILIES = {
    hplt: identity.BYTE_LEVEL,
    herbert: identity.WORD_END,
    gemma: identity.SENTENCEPIECE,
    words: identity.WORD_LEVEL,
    characters: identity.CHARACTERS,
}


def make_teacher(folder: Path, name: str, backend: Tokenizer):
    cls, sep = (("[CLS]", backend.token_to_id("[CLS]")), ("[SEP]", backend.token_to_id("[SEP]")))
    backend.post_processor = processors.BertProcessing(sep, cls)
    names = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
    tokens = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
    PreTrainedTokenizerFast(tokenizer_object=backend, **dict(zip(names, tokens, strict=True))).save_pretrained(folder)
    return load_tokenizer(name, TeacherConfig(model=str(folder), languages=["x"]))
