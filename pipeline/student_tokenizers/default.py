"""The tokenizer for text of unknown or mixed language: a Unigram over the merged surfaces.

A Unigram model's ids are list positions, so the merged vocabulary is used as its list
unchanged. Scores are the log-frequencies of the merged tokens in the teachers'
segmentations (`pipeline.student_tokenizers.word_counts`), so that the most probable
segmentation tends to be the one that a teacher would make. Every language has the same
weight, shared evenly by its teachers. Among the rules for where words begin
(`pipeline.student_tokenizers.word_boundaries`), it uses the one that agrees best with the
teachers' words.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from tokenizers.normalizers import Normalizer
from transformers import PreTrainedTokenizerFast

from pipeline.student_tokenizers.word_boundaries import (
    WORD_BOUNDARIES,
    WordBoundaries,
    coverage,
    fallbacks,
    normalizer,
    pre_tokenizer,
)
from pipeline.teachers.family import BYTE_LEVEL, SPACE_MARK
from pipeline.teachers.tokenizer import family_of
from pipeline.teachers.tokenizer_json import unreachable
from pipeline.vocabulary.identity import FAMILIES, Identity, display, is_chinese, is_isolated, parse
from pipeline.vocabulary.merge import SPECIAL_TOKENS, UNUSED
from schemas.vocabulary import CONTINUATION, LITERAL, SPECIAL_ROLES, WORD, Vocabulary

_TRANSFORMERS_NAMES = {
    "pad": "pad_token",
    "unknown": "unk_token",
    "start": "cls_token",
    "end": "sep_token",
    "mask": "mask_token",
}
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
# Distinct words on which rules are compared, for all languages together: with 200 languages this takes minutes.
_TYPES = 400_000
# Rounding makes scores the same on every machine, and the tokenizer.json a third as long.
_DIGITS = 6


def default_tokenizer(
    vocabulary: Vocabulary, words: pa.Table, teachers: Iterable[Tokenizer], max_length: int
) -> PreTrainedTokenizerFast:
    """Makes the default tokenizer of `vocabulary`.

    Args:
      words: how the teachers segment words (`pipeline.student_tokenizers.word_counts.WORDS_SCHEMA`), merged ids.
      teachers: their tokenizers, merged ids, in the vocabulary's order. Their added tokens are used, and their
        normalizers, which show how to write characters that have no token.
    """
    teachers = list(teachers)
    segmentations = _segmentations(words)
    scores = _scores(segmentations, len(vocabulary))
    vocabulary = _read_strings(vocabulary, scores, teachers)
    added = _added_words(vocabulary, teachers)
    covered = coverage(_entries(vocabulary, scores, added, isolate_punctuation=False))
    charsmap = fallbacks(covered, [teacher.normalizer for teacher in teachers if teacher.normalizer is not None])
    entries = {
        isolate_punctuation: _entries(vocabulary, scores, added, isolate_punctuation)
        for isolate_punctuation in (False, True)
    }
    unigrams = {
        isolate_punctuation: _unigram(vocabulary, scores, written) for isolate_punctuation, written in entries.items()
    }

    def tokenizer_by(boundaries: WordBoundaries) -> Tokenizer:
        tokenizer = Tokenizer(unigrams[boundaries.isolate_punctuation])
        tokenizer.normalizer = normalizer(boundaries, covered, charsmap)
        tokenizer.pre_tokenizer = pre_tokenizer(boundaries)
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
        placed = [
            token
            for merged, token in sorted(added.items())
            if entries[boundaries.isolate_punctuation][merged] == token.content
        ]
        tokenizer.add_tokens(_distinct(placed, tokenizer.normalizer))
        return tokenizer

    best = max(_admissible(vocabulary), key=lambda boundaries: _agreement(tokenizer_by(boundaries), segmentations))
    return _with_special_tokens(tokenizer_by(best), vocabulary, max_length)


class _Segmentation(NamedTuple):
    """How one teacher segments the words of one language (`WORDS_SCHEMA`), the most common first.

    `weight` is 1 divided by the number of the language's teachers.
    """

    words: pa.Table
    weight: float


def _segmentations(words: pa.Table) -> list[_Segmentation]:
    """Splits the table of words by language and teacher."""
    pairs = pc.binary_join_element_wise(words["language"], words["teacher"], "\0")
    distinct = pc.unique(pairs).to_pylist()
    teachers = Counter(pair.split("\0")[0] for pair in distinct)
    return [_Segmentation(words.filter(pc.equal(pairs, pair)), 1 / teachers[pair.split("\0")[0]]) for pair in distinct]


def _scores(segmentations: list[_Segmentation], size: int) -> np.ndarray:
    """Returns float64 [size]: log-frequencies, with the same weight for every language."""
    frequencies = np.full(size, 1e-9)
    for words, weight in segmentations:
        counts = np.repeat(words["count"].to_numpy(), pc.list_value_length(words["ids"]).to_numpy())
        # Half an occurrence is added to each count, for tokens that the sample lacks.
        occurrences = np.bincount(pc.list_flatten(words["ids"]).to_numpy(), counts, size) + 0.5
        frequencies += weight * (occurrences / occurrences.sum())
    return np.log(frequencies / frequencies.sum()).round(_DIGITS)


def _agreement(tokenizer: Tokenizer, segmentations: list[_Segmentation]) -> float:
    """Returns the share of running words segmented as by their teacher, minus the relative error in tokens per word.

    It compares the most common words. The result is the mean over languages, and over the teachers of a language.
    """
    results = []
    most = max(1, _TYPES // max(1, len(segmentations)))
    for words, _ in segmentations:
        common = words.slice(0, most)
        counts, ids = common["count"].to_numpy(), common["ids"].to_pylist()
        encodings = tokenizer.encode_batch(common["word"].to_pylist(), add_special_tokens=False)
        default_ids = [encoding.ids for encoding in encodings]
        same = np.array([by_default == by_teacher for by_default, by_teacher in zip(default_ids, ids, strict=True)])
        default_tokens, teacher_tokens = (
            counts @ np.array([len(word) for word in word_ids]) for word_ids in (default_ids, ids)
        )
        results.append(counts @ same / counts.sum() - abs(default_tokens / teacher_tokens - 1))
    weights = [segmentation.weight for segmentation in segmentations]
    return float(np.average(results, weights=weights)) if results else 0.0


def _admissible(vocabulary: Vocabulary) -> list[WordBoundaries]:
    """Returns the rules by which this vocabulary can write what its teachers can."""
    # Without a lone ▁, punctuation after a space can only be written as BERT does.
    has_mark = (WORD, SPACE_MARK) in zip(vocabulary.roles, vocabulary.tokens, strict=True)
    has_chinese = any(len(token) == 1 and is_chinese(token) for token in vocabulary.tokens)
    return [
        boundaries
        for boundaries in WORD_BOUNDARIES
        if (boundaries.isolate_punctuation or has_mark) and (boundaries.han_starts_word or has_chinese)
    ]


def _read_strings(vocabulary: Vocabulary, scores: np.ndarray, teachers: list[Tokenizer]) -> Vocabulary:
    """Returns a vocabulary of `token_identity: string` with words and continuations instead of literals, others unchanged.

    A string means what it means in the family of its first teacher. Byte-level teachers count as first, because their
    strings can then write every text. If several strings mean the same, only the most common one is used.
    """
    if not {WORD, CONTINUATION}.isdisjoint(vocabulary.roles):
        return vocabulary
    families = [family_of("a teacher", teacher) for teacher in teachers]
    ordered = sorted(
        zip(families, vocabulary.teacher_ids.values(), strict=True), key=lambda pair: pair[0] != BYTE_LEVEL
    )
    first = np.argmax([ids >= 0 for _, ids in ordered], axis=0)
    added = {merged for teacher in teachers for merged in teacher.get_added_tokens_decoder()}
    tokens, roles = list(vocabulary.tokens), list(vocabulary.roles)
    taken: set[Identity] = set()
    for merged in np.argsort(-scores, kind="stable").tolist():
        token = tokens[merged]
        if roles[merged] != LITERAL or merged in added or UNUSED.fullmatch(token):
            continue
        identity = FAMILIES[ordered[first[merged]][0]](token)
        if identity in taken:
            tokens[merged] = unreachable(merged)
        else:
            tokens[merged], roles[merged] = display(identity), identity.role
            taken.add(identity)
    return Vocabulary(tokens, roles, vocabulary.teacher_ids)


def _added_words(vocabulary: Vocabulary, teachers: list[Tokenizer]) -> dict[int, AddedToken]:
    """Returns the teachers' added tokens that are not special tokens, by merged id."""
    return {
        merged: token
        for teacher in teachers
        for merged, token in teacher.get_added_tokens_decoder().items()
        if not token.special and vocabulary.roles[merged] == LITERAL
    }


def _distinct(added: list[AddedToken], normalizer: Normalizer) -> list[AddedToken]:
    """Returns the added tokens that a normalized text can contain, each form once.

    Normalization may leave nothing of a token, such as the runs of spaces that many byte-level teachers have, and the
    tokenizers library panics if a pattern is empty.
    """
    by_form: dict[str, AddedToken] = {}
    for token in added:
        form = normalizer.normalize_str(token.content)
        if form.strip():
            by_form.setdefault(form, token)
    return list(by_form.values())


def _unigram(vocabulary: Vocabulary, scores: np.ndarray, written: list[str]) -> models.Unigram:
    unknown = vocabulary.roles.index("unknown") if "unknown" in vocabulary.roles else None
    return models.Unigram(list(zip(written, scores.tolist(), strict=True)), unk_id=unknown, byte_fallback=True)


def _entries(
    vocabulary: Vocabulary, scores: np.ndarray, added: dict[int, AddedToken], isolate_punctuation: bool
) -> list[str]:
    """Returns the Unigram list's entry for each merged id: its surface, if a text can contain it."""
    entries = [
        _entry(merged, role, token)
        for merged, (role, token) in enumerate(zip(vocabulary.roles, vocabulary.tokens, strict=True))
    ]
    if isolate_punctuation:
        # Here every mark is a word, so `,` and `▁,` are written alike, and the more common of the two gets the
        # entry. The teachers' `##,`, which BERT's rule never makes, then gets `,`.
        ids = {entry: merged for merged, entry in enumerate(entries)}
        for merged, (role, token) in enumerate(zip(vocabulary.roles, vocabulary.tokens, strict=True)):
            if role == CONTINUATION and is_isolated(token):
                rival = ids.get(SPACE_MARK + token)
                if rival is None or scores[merged] >= scores[rival]:
                    entries[merged] = SPACE_MARK + token
                    if rival is not None:
                        entries[rival] = unreachable(rival)
            elif role == LITERAL and token.startswith("##") and is_isolated(token[2:]):
                entries[merged] = token[2:]
    # A teacher may have an ordinary token with the string of a special token here: the special token gets the string.
    special = set(SPECIAL_TOKENS.values())
    entries = [
        unreachable(merged) if entry in special and role not in SPECIAL_TOKENS else entry
        for merged, (entry, role) in enumerate(zip(entries, vocabulary.roles, strict=True))
    ]
    taken = set(entries) | special
    for merged, added_token in added.items():
        if added_token.content not in taken:
            entries[merged] = added_token.content
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
    # If a word mark or a literal ▁ would be ambiguous, the token is left out, and smaller pieces write the text.
    plain = token in (text, SPACE_MARK + text)
    return token if plain else unreachable(merged)


def _with_special_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary, max_length: int) -> PreTrainedTokenizerFast:
    """Adds the special tokens, and the frame of start and end tokens."""
    # The mask includes the space before it, as the word that it replaces would.
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
