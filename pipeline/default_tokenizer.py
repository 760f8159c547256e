"""The tokenizer for text of unknown or mixed language: a Unigram over the merged surfaces.

A Unigram model's ids are list positions, so the merged vocabulary is its list as it
stands. Scores are the log-frequencies of the merged tokens in the teachers' own
segmentations (`pipeline.words`), languages weighing the same, so that the most
probable segmentation tends to be the one that a teacher would have made.

Where words begin is the teachers' affair too, and they differ: to BERT every
punctuation mark ends a word and the next letter starts one (`(▁the`); to the others a
word starts after a space and nowhere else (`▁(the`). Text does not say which language
it is in, so there is one rule for all: the one that gives more of the teachers' words.

What no token can write is first written as a teacher would: folded to lower case, its
width normalised and so on, by a table from characters to what a teacher's normalizer
makes of them. What still cannot be written goes to byte tokens, where there are any.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pipeline.charsmap import compile_charsmap
from pipeline.identity import CONTINUATION, SPACE_MARK, WORD, is_isolated, parse
from pipeline.merge import SPECIAL_TOKENS
from pipeline.remap_tokenizer import unreachable
from schemas.vocabulary import SPECIAL_ROLES, Vocabulary

_TRANSFORMERS_NAMES = {
    "pad": "pad_token",
    "unknown": "unk_token",
    "start": "cls_token",
    "end": "sep_token",
    "mask": "mask_token",
}
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
# Every byte that UTF-8 uses beyond ASCII.
_BYTE_PIECES = {f"<0x{byte:02X}>" for byte in [*range(0x80, 0xC0), *range(0xC2, 0xF5)]}
_NOT_WRITTEN = {"Cc", "Cn", "Co", "Cs", "Zs", "Zl", "Zp"}
# Runs of letters, of digits and of other characters, each with the space before it.
_RUNS = r"▁?[\p{L}\p{M}]+|▁?\p{N}+|▁?[^\p{L}\p{M}\p{N}▁]+|▁+"
# A score six digits long is the same on every machine, and its tokenizer.json a third as long.
_DIGITS = 6


def default_tokenizer(
    vocabulary: Vocabulary, words: pa.Table, teachers: Iterable[Tokenizer], max_length: int
) -> PreTrainedTokenizerFast:
    """The default tokenizer of `vocabulary`.

    Args:
      words: how the teachers segment words (`pipeline.words.WORDS_SCHEMA`), merged ids.
      teachers: their tokenizers, whose normalizers show how to write what no token can.
    """
    segmentations = _segmentations(words)
    scores = _scores(segmentations, len(vocabulary))
    theirs = [teacher.normalizer for teacher in teachers if teacher.normalizer is not None]
    candidates = [
        _unigram(vocabulary, scores, theirs, bert_words)
        for bert_words in (False, True)
        # Without a lone ▁, punctuation after a space could only be written BERT's way.
        if bert_words or (WORD, SPACE_MARK) in zip(vocabulary.roles, vocabulary.tokens, strict=True)
    ]
    tokenizer = max(candidates, key=lambda candidate: _agreement(candidate, segmentations))
    # The mask takes the space before it, since the word it stands for would.
    specials = {
        role: AddedToken(SPECIAL_TOKENS[role], special=True, lstrip=role == "mask")
        for role in SPECIAL_ROLES
        if role in vocabulary.roles
    }
    tokenizer.add_special_tokens(list(specials.values()))
    frame = {role: SPECIAL_TOKENS[role] for role in ("start", "end") if role in specials}
    start, end = ([frame[role]] if role in frame else [] for role in ("start", "end"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*start, "$A", *end],
        pair=[*start, "$A", *end, "$B", *end],
        special_tokens=[(token, vocabulary.id_of(role)) for role, token in frame.items()],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        **{_TRANSFORMERS_NAMES[role]: token for role, token in specials.items()},
    )


class _Segmentation(NamedTuple):
    """How one teacher segments the words of one language: W words, T tokens in all."""

    words: list[str]
    counts: np.ndarray
    ids: list[list[int]]


def _segmentations(words: pa.Table) -> list[_Segmentation]:
    """The table of words by language and teacher."""
    pairs = pc.binary_join_element_wise(words["language"], words["teacher"], "\0")
    return [
        _Segmentation(chosen["word"].to_pylist(), chosen["count"].to_numpy(), chosen["ids"].to_pylist())
        for pair in pc.unique(pairs)
        for chosen in [words.filter(pc.equal(pairs, pair))]
    ]


def _scores(segmentations: list[_Segmentation], size: int) -> np.ndarray:
    """float64 [size]: log-frequencies, each language and teacher weighing the same."""
    frequencies = np.full(size, 1e-9)
    for _, counts, ids in segmentations:
        tokens = np.fromiter(chain.from_iterable(ids), np.int64)
        # Half an occurrence more than was seen, for tokens that the sample lacks.
        occurrences = np.bincount(tokens, np.repeat(counts, [len(one) for one in ids]), size) + 0.5
        frequencies += occurrences / occurrences.sum()
    return np.log(frequencies / frequencies.sum()).round(_DIGITS)


def _agreement(tokenizer: Tokenizer, segmentations: list[_Segmentation]) -> float:
    """The share of running words segmented as by their teacher, the mean over languages and teachers."""
    shares = []
    for texts, counts, ids in segmentations:
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        same = np.array([encoding.ids == one for encoding, one in zip(encodings, ids, strict=True)])
        shares.append((same * counts).sum() / counts.sum())
    return float(np.mean(shares)) if shares else 0.0


def _unigram(
    vocabulary: Vocabulary, scores: np.ndarray, theirs: list[normalizers.Normalizer], bert_words: bool
) -> Tokenizer:
    """The model with its normalizer, pre-tokenizer and decoder, for one rule of where words begin."""
    entries = _entries(vocabulary, scores, bert_words)
    unknown = vocabulary.roles.index("unknown") if "unknown" in vocabulary.roles else None
    tokenizer = Tokenizer(
        models.Unigram(list(zip(entries, scores.tolist(), strict=True)), unk_id=unknown, byte_fallback=True)
    )
    starts, rests = _characters(entries)
    has_bytes = _BYTE_PIECES <= set(entries)
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if charsmap := _fallbacks(starts | rests, theirs, has_bytes):
        steps.append(normalizers.Precompiled(compile_charsmap(charsmap)))
    if not has_bytes:
        # Controls, private and unassigned characters mean nothing without a token of their own.
        steps.append(normalizers.Replace(Regex(rf"[\p{{Cc}}\p{{Cn}}\p{{Co}}&&[^\s{_class(starts | rests)}]]"), ""))
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    metaspace = pre_tokenizers.Metaspace()
    if bert_words:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), metaspace])
    else:
        parts = [metaspace, pre_tokenizers.Split(Regex(_RUNS), "isolated")]
        # A character that only starts words gets a word of its own wherever it stands.
        if lonely := starts - rests:
            own_word = f"[{_class(lonely)}]"
            steps.append(normalizers.Replace(Regex(f" (?={own_word})"), ""))
            parts.insert(0, pre_tokenizers.Split(Regex(own_word), "merged_with_next"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    return tokenizer


def _entries(vocabulary: Vocabulary, scores: np.ndarray, bert_words: bool) -> list[str]:
    """What the Unigram list holds for each merged id: its surface where text can have it."""
    entries = [
        _entry(merged, role, token)
        for merged, (role, token) in enumerate(zip(vocabulary.roles, vocabulary.tokens, strict=True))
    ]
    if bert_words:
        # Here every mark is a word, so that `,` and `▁,` are written alike: the commoner one is meant.
        ids = {entry: merged for merged, entry in enumerate(entries)}
        for entry, merged in list(ids.items()):
            if vocabulary.roles[merged] == CONTINUATION and is_isolated(entry):
                rival = ids.get(SPACE_MARK + entry)
                if rival is not None and scores[rival] > scores[merged]:
                    continue
                if rival is not None:
                    entries[rival] = unreachable(rival)
                entries[merged] = SPACE_MARK + entry
    return entries


def _entry(merged: int, role: str, token: str) -> str:
    if role in SPECIAL_TOKENS:
        return token
    if role not in (WORD, CONTINUATION):
        return token if _BYTE_PIECE.fullmatch(token) else unreachable(merged)
    surface = parse(role, token).surface
    try:
        text = surface.decode().replace(" ", SPACE_MARK)
    except UnicodeDecodeError:
        return token if role == CONTINUATION and len(surface) == 1 else unreachable(merged)
    # What a word's mark or a literal ▁ would make ambiguous is left to smaller pieces.
    plain = token in (text, SPACE_MARK + text)
    return token if plain else unreachable(merged)


def _characters(entries: list[str]) -> tuple[set[str], set[str]]:
    """The characters that have an entry of their own, (at the start of a word, elsewhere)."""
    starts = {entry[1] for entry in entries if len(entry) == 2 and entry[0] == SPACE_MARK}
    rests = {entry for entry in entries if len(entry) == 1 and entry != SPACE_MARK}
    return starts, rests


def _fallbacks(known: set[str], theirs: list[normalizers.Normalizer], has_bytes: bool) -> dict[str, str]:
    """For characters without an entry, what the first teacher makes of them that makes something known.

    Nothing is deleted that byte tokens could keep.
    """
    distinct = {normalizer.__getstate__(): normalizer for normalizer in theirs}.values()
    table: dict[str, str] = {}
    for code in range(0x21, sys.maxunicode + 1):
        character = chr(code)
        if character in known or unicodedata.category(character) in _NOT_WRITTEN:
            continue
        for normalizer in distinct:
            # Some put spaces around what they isolate, or mark the start of a word.
            written = normalizer.normalize_str(character).replace(SPACE_MARK, " ").strip()
            if written != character and (written or not has_bytes) and known.issuperset(written.replace(" ", "")):
                table[character] = written
                break
    return table


def _class(characters: Iterable[str]) -> str:
    """The inside of a regular expression's character class."""
    return "".join(f"\\x{{{ord(character):X}}}" for character in sorted(characters))
