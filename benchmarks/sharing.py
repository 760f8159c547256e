"""`python -m benchmarks.sharing`: how many tokens the identity of tokens saves, beside equal strings.

Tokenizers of 8,000 tokens, trained on Bible editions that pip fetches (`examples.demo.corpora`).
"""

import tempfile
from pathlib import Path

from examples.demo.corpora import clean, read_edition
from examples.demo.tokenizers import make_tokenizer
from pipeline.config import TeacherConfig
from pipeline.teachers.tokenizer import load_tokenizer
from pipeline.vocabulary.merge import merge

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
    print("| teachers | all tokens | equal strings | merged | saved by strings | saved by identity |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as scratch:
        for name, world in WORLDS.items():
            teachers = [_teacher(Path(scratch), *each) for each in world]
            every = sum(len(teacher.tokens) for teacher in teachers)
            by_string, merged = len(merge(teachers, "string")), len(merge(teachers))
            print(
                f"| {name} | {every:,} | {by_string:,} | {merged:,} | "
                f"{1 - by_string / every:.0%} | {1 - merged / every:.0%} |",
                flush=True,
            )


def _teacher(scratch: Path, language: str, family: str):
    folder = scratch / f"{language}-{family}"
    if not folder.exists():
        text = scratch / f"{language}.txt"
        verses = read_edition(Path("demo/downloads"), EDITIONS[language])
        text.write_text("\n".join(clean(verse) for *_, verse in verses), encoding="utf-8")
        make_tokenizer(family, text, SIZE, folder)
    return load_tokenizer(folder.name, TeacherConfig(model=str(folder), languages=[language]))


if __name__ == "__main__":
    main()
