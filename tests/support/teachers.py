"""Teachers with many kinds of tokenizers, and merged tokenizers for several tests."""

from pathlib import Path

import pyarrow as pa
import torch
from tokenizers import normalizers
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from pipeline.config import TeacherConfig
from pipeline.student_tokenizers.default import default_tokenizer
from pipeline.student_tokenizers.remap import remap_tokenizer
from pipeline.student_tokenizers.word_counts import count_words, in_merged_ids
from pipeline.teachers.tokenizer import TeacherTokenizer, load_tokenizer
from pipeline.vocabulary.merge import merge
from tests.support import world


def broken_teacher(teachers, folder, value=torch.nan):
    """Returns a copy of the English teacher that predicts NaN for text with one word, which its trial run does not contain.

    `value` is that of the word's embedding; large numbers overflow to NaN too.
    """
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    # Untied output embeddings: otherwise that word's logit would be NaN everywhere.
    model = AutoModelForMaskedLM.from_pretrained(teachers / "en-wordpiece", tie_word_embeddings=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("teacher")] = value
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


CORPUS = [
    "The café in Zürich serves naïve guests, don't you know? (Yes!) 1999 e-mails.",
    "Ёлка и й: поёт песню, пишет — «море».",
    "हिन्दी में लिखता है, शिक्षक नदी।",
    "العربية تُكتب من اليمين، كتاب جميل.",
    "我去了北京。東京は大きい、がぎぐ。",
    "👩‍🔬 😀 ❤️ emoji, নিয়ে",
] * 20


def load(folder: Path, name: str = "t") -> TeacherTokenizer:
    return load_tokenizer(name, TeacherConfig(model=str(folder), languages=["x"]))


def make_default(teachers, tmp_path) -> tuple[PreTrainedTokenizerFast, dict]:
    """Returns the default tokenizer of some teachers, saved and loaded, and the merged vocabulary."""
    vocabulary = merge(teachers)
    lines = sum((world.sentences(language, 40) for language in world.WORDS), [])
    words = [
        in_merged_ids(count_words("x", teacher, lines), vocabulary.to_merged(teacher.name)) for teacher in teachers
    ]
    remapped = [
        remap_tokenizer(teacher.hf, vocabulary.to_merged(teacher.name)).backend_tokenizer for teacher in teachers
    ]
    default_tokenizer(vocabulary, pa.concat_tables(words), remapped, 64).save_pretrained(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path), vocabulary


def remapped(teachers: list[TeacherTokenizer]) -> dict[str, tuple]:
    """Returns for each teacher its tokenizer with merged ids, and the map from its own ids."""
    vocabulary = merge(teachers)
    return {
        teacher.name: (
            remap_tokenizer(teacher.hf, vocabulary.to_merged(teacher.name)),
            vocabulary.to_merged(teacher.name),
        )
        for teacher in teachers
    }


def fitted(text: dict[str, list[str]], teachers: list, token_identity: str = "family") -> tuple:
    """Returns (the default tokenizer, {teacher: its tokenizer with merged ids}, the vocabulary)."""
    vocabulary = merge(teachers, token_identity)
    words = [in_merged_ids(count_words("x", t, text[t.name]), vocabulary.to_merged(t.name)) for t in teachers]
    remapped = {t.name: remap_tokenizer(t.hf, vocabulary.to_merged(t.name)) for t in teachers}
    backends = [tokenizer.backend_tokenizer for tokenizer in remapped.values()]
    return default_tokenizer(vocabulary, pa.concat_tables(words), backends, 64), remapped, vocabulary


def make_teachers(
    folder, text: dict[str, list[str]], families: dict[str, str], lowercase: str = "", size: int = 3000
) -> list:
    teachers = []
    for name, family in families.items():
        lines = [line.lower() for line in text[name]] if name == lowercase else text[name]
        tokenizer = world.make_tokenizer(family, lines, size)
        if name == lowercase:
            tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.save_pretrained(folder / name)
        teachers.append(load_tokenizer(name, TeacherConfig(model=str(folder / name), languages=["x"])))
    return teachers
