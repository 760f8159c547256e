"""The default tokenizer's normalizer and pre-tokenizer.

The teachers differ in where words begin. For BERT, every punctuation mark ends a word and the
next letter starts one (`(▁the`). For the others, a word starts only after a space (`▁(the`),
and some never join letters and punctuation in one token. Text does not
say which language it is in, so there is one rule for all, one of `WORD_BOUNDARIES`.

A character without a token is written as a teacher would write it (in lower case, with its width
normalised and so on), by a table that maps characters to the output of a teacher's normalizer.
Characters that still cannot be written become byte tokens, if there are any.
"""

import sys
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from tokenizers import Regex, normalizers, pre_tokenizers

from pipeline.student_tokenizers.charsmap import compile_charsmap
from pipeline.teachers.family import SPACE_MARK
from pipeline.vocabulary.identity import HAN

# Every byte that UTF-8 uses beyond ASCII.
_BYTE_PIECES = {f"<0x{byte:02X}>" for byte in [*range(0x80, 0xC0), *range(0xC2, 0xF5)]}
_NOT_WRITTEN = {"Cc", "Cn", "Co", "Cs", "Zs", "Zl", "Zp"}
# Runs of letters, digits and other characters. GPT-2 counts vowel signs among the other characters.
_RUNS = r"▁?[\p{L}\p{M}]+|▁?\p{N}+|▁?[^\p{L}\p{M}\p{N}▁]+|▁+"
_GPT2_RUNS = r"▁?\p{L}+|▁?\p{N}+|▁?[^\p{L}\p{N}▁]+|▁+"


class WordBoundaries(NamedTuple):
    """Where words begin, and which characters no token may join.

    Attributes:
      cut: a regular expression for the parts of the text between two spaces, starting with `▁`.
      han_starts_word: whether a Chinese character after a space, or at the beginning of the text, starts a word;
        with `isolate_punctuation`, whether every Chinese character is a word.
      isolate_punctuation: use BERT's rule instead: every punctuation mark is a word, and the next letter starts one.
    """

    cut: str | None = None
    han_starts_word: bool = True
    isolate_punctuation: bool = False


_CUTS = (None, _RUNS, _GPT2_RUNS)
WORD_BOUNDARIES = [
    *(WordBoundaries(cut, han_starts_word) for han_starts_word in (True, False) for cut in _CUTS),
    *(WordBoundaries(None, han_starts_word, isolate_punctuation=True) for han_starts_word in (True, False)),
]


class Coverage(NamedTuple):
    """The characters that have a token at the start of a word, and elsewhere; and whether all bytes have one."""

    starts: frozenset[str]
    rests: frozenset[str]
    has_bytes: bool


def coverage(entries: Iterable[str]) -> Coverage:
    """Returns the coverage of the entries of a Unigram list."""
    entries = set(entries)
    return Coverage(
        frozenset(entry[1] for entry in entries if len(entry) == 2 and entry[0] == SPACE_MARK),
        frozenset(entry for entry in entries if len(entry) == 1 and entry != SPACE_MARK),
        entries >= _BYTE_PIECES,
    )


def fallbacks(covered: Coverage, teacher_normalizers: Iterable[normalizers.Normalizer]) -> dict[str, str]:
    """Maps each character without a token to the first teacher's normalization of it that can be written.

    A character that byte tokens can represent is not deleted.
    """
    known = covered.starts | covered.rests
    distinct = {normalizer.__getstate__(): normalizer for normalizer in teacher_normalizers}.values()
    table: dict[str, str] = {}
    for code in range(0x21, sys.maxunicode + 1):
        character = chr(code)
        if character in known or unicodedata.category(character) in _NOT_WRITTEN:
            continue
        # The decomposed letter comes last, because all text is composed first.
        for rewrite in (*(normalizer.normalize_str for normalizer in distinct), _decompose):
            # Some normalizers put spaces around isolated characters, or mark the start of a word.
            written = rewrite(character).replace(SPACE_MARK, " ").strip()
            writable = known.issuperset(written.replace(" ", "")) and (written or not covered.has_bytes)
            if written != character and writable:
                table[character] = written
                break
    return table


def normalizer(boundaries: WordBoundaries, covered: Coverage, charsmap: dict[str, str]) -> normalizers.Normalizer:
    """Returns the normalizer: NFC, `charsmap`, and single spaces before words."""
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if charsmap:
        steps.append(normalizers.Precompiled(compile_charsmap(charsmap)))
    if not covered.has_bytes:
        # Control, private and unassigned characters without a token are meaningless.
        known = _class(covered.starts | covered.rests)
        steps.append(_replace(rf"[\p{{Cc}}\p{{Cn}}\p{{Co}}&&[^\s{known}]]", ""))
    if boundaries.isolate_punctuation and boundaries.han_starts_word:
        steps.append(
            normalizers.BertNormalizer(
                clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
            )
        )
    # Not stripped on the left: text between special tokens is normalized alone, and ` y` after a mask starts a word.
    steps += [_replace(r"\s+", " "), normalizers.Strip(left=False)]
    # A character whose only token is word-initial starts a word everywhere.
    lonely = covered.starts - covered.rests
    if lonely and not boundaries.isolate_punctuation:
        steps.append(_replace(f" ?(?=[{_class(lonely)}])", " "))
    return normalizers.Sequence(steps)


def pre_tokenizer(boundaries: WordBoundaries) -> pre_tokenizers.PreTokenizer:
    """Returns the pre-tokenizer, which cuts a normalized text into parts for the model, with `▁` for spaces."""
    if boundaries.isolate_punctuation:
        return pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace()])
    # The first word of a text has no space before it, so `▁` is added. Text after a special token is a continuation.
    parts: list[pre_tokenizers.PreTokenizer] = [pre_tokenizers.Metaspace(prepend_scheme="first")]
    if not boundaries.han_starts_word:
        parts.append(pre_tokenizers.Split(Regex(f"▁(?=[{HAN}])"), "removed"))
    if boundaries.cut:
        parts.append(pre_tokenizers.Split(Regex(boundaries.cut), "isolated"))
    return pre_tokenizers.Sequence(parts)


def _decompose(character: str) -> str:
    return unicodedata.normalize("NFD", character)


def _replace(pattern: str, content: str) -> normalizers.Replace:
    return normalizers.Replace(Regex(pattern), content)


def _class(characters: Iterable[str]) -> str:
    """Returns the inside of a regular expression's character class."""
    return "".join(f"\\x{{{ord(character):X}}}" for character in sorted(characters))
