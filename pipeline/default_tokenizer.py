"""The tokenizer for text of unknown or mixed language: a Unigram over the merged surfaces.

A Unigram model's ids are list positions, so the merged vocabulary is its list as it
stands. Scores are log-frequencies counted from the teachers' own segmentations (masked rows
and their labels, a close stand-in for the text), so
that the most probable segmentation tends to be the one a teacher would have made.
Bytes that are no whole character serve as byte fallback.
"""

import numpy as np
import pyarrow.parquet as pq
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pipeline.identity import CONTINUATION, SPACE_MARK, WORD, parse
from pipeline.merge import SPECIAL_TOKENS
from pipeline.remap_tokenizer import unreachable
from schemas.storage import filesystem
from schemas.vocabulary import SPECIAL_ROLES, Vocabulary

_TRANSFORMERS_NAMES = {
    "pad": "pad_token",
    "unknown": "unk_token",
    "start": "cls_token",
    "end": "sep_token",
    "mask": "mask_token",
}


def count_tokens(urls: list[str], size: int) -> np.ndarray:
    """int64 [size]: how often each merged id stands in the first row group of each file."""
    counts = np.zeros(size, np.int64)
    for url in urls:
        fs, path = filesystem(url)
        with fs.open(path, "rb") as stream:
            parquet = pq.ParquetFile(stream)
            if not parquet.num_row_groups:
                continue
            table = parquet.read_row_group(0, columns=["input_ids", "labels"])
        for column in table.columns:
            counts += np.bincount(column.combine_chunks().flatten().to_numpy(), minlength=size)
    return counts


def default_tokenizer(vocabulary: Vocabulary, counts: np.ndarray, max_length: int) -> PreTrainedTokenizerFast:
    """The default tokenizer of `vocabulary`, from how often each merged id occurs (int [V])."""
    counts = counts + 0.5
    scores = np.log(counts / counts.sum())
    entries = [
        (_entry(merged, role, token), float(score))
        for merged, (role, token, score) in enumerate(zip(vocabulary.roles, vocabulary.tokens, scores, strict=True))
    ]
    unknown = vocabulary.roles.index("unknown") if "unknown" in vocabulary.roles else None
    tokenizer = Tokenizer(models.Unigram(entries, unk_id=unknown, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
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


def _entry(merged: int, role: str, token: str) -> str:
    """What the Unigram list holds for one merged token: its surface where text can have it."""
    if role in SPECIAL_TOKENS:
        return token
    if role not in (WORD, CONTINUATION):
        return unreachable(merged)
    surface = parse(role, token).surface
    try:
        text = surface.decode().replace(" ", SPACE_MARK)
    except UnicodeDecodeError:
        return f"<0x{surface[0]:02X}>" if role == CONTINUATION and len(surface) == 1 else unreachable(merged)
    # What a word's mark or a literal ▁ would make ambiguous is left to smaller pieces.
    plain = token in (text, SPACE_MARK + text)
    return token if plain else unreachable(merged)
