"""Makes a fast tokenizer from a SentencePiece `.model`, and checks it against SentencePiece itself."""

import re
import unicodedata
from pathlib import Path
from typing import cast

from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase

from pipeline.teachers.tokenizer_json import unreachable
from schemas.errors import UserError

# The offset that each family adds to SentencePiece's ids to make room for its special tokens.
_OFFSETS = {
    "XLMRobertaTokenizer": 1,
    "CamembertTokenizer": 4,
    "AlbertTokenizer": 0,
    "DebertaV2Tokenizer": 0,
    "RemBertTokenizer": 0,
    "BigBirdTokenizer": 0,
}
_UNIGRAM, _BPE = 1, 2
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
# Bytes and special tokens score this far below every real piece, because no text should match them.
_FAR_BELOW = 1000
_CLUSTER_BYTES = 6
# Score penalty: ALBERT splits off the comma after a digit.
_ALBERT_COMMA = 100
# Spaces of all kinds, compatibility forms, accents, decomposed letters, scripts, emoji, punctuation, controls.
_PROBES = [
    "", " a  b ", "a\tb\nc", "a\u00a0b\u3000c\u2028d\u0085e",
    "\ufb01 \u00bd \uff21\u2460", "L'\u00e9t\u00e9 \u00c0 \u00df \u0130",
    "e\u0301 \u0438\u0306 \u09c7\u09be \u304b\u3099", "\u062a\u0639\u0630\u0651\u064e\u0631",
    "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0645\u064f\u062d\u0640\u0645", "\u6211\u53bb\u4e86\u3002",
    "\U0001f469\u200d\U0001f4bb\u2764\ufe0f", "\ue000x\u16a0", "1,000 (9,) [a]-\u2013 ``q''",
    "don't U.S.A. http://x.y/z?a=b", "a\u200bb\u00adc\x07d", "a" * 200,
]  # fmt: skip


def from_sentencepiece(where: str, tokenizer: PreTrainedTokenizerBase, file: str) -> Tokenizer:
    """Makes the fast form of `tokenizer`, whose class reads the SentencePiece model `file`.

    It is made from the model itself, because the conversion in transformers 5 drops byte fallback,
    reads BPE as Unigram and replaces normalizers.

    Raises:
      UserError: the family is unknown, or ids would differ from SentencePiece's on probes.
    """
    family = type(tokenizer).__name__
    if family not in _OFFSETS:
        raise UserError(
            f"{where}: {family} numbers its SentencePiece pieces in an unknown way; add a tokenizer.json to its files"
        )
    proto = ModelProto.FromString(Path(file).read_bytes())
    if not proto.pieces:
        raise UserError(f"{where}: its SentencePiece model is empty")
    spec, offset, unknown = proto.trainer_spec, _OFFSETS[family], tokenizer.unk_token_id
    if spec.model_type not in (_UNIGRAM, _BPE):
        raise UserError(f"{where}: its SentencePiece model is neither Unigram nor BPE")
    if offset == 0 and unknown != spec.unk_id:
        raise UserError(
            f"{where}: its unknown token has the id {unknown}, but in its SentencePiece model {spec.unk_id}"
        )

    def teacher_id_of(number: int) -> int:
        piece = proto.pieces[number]
        if piece.type == _UNKNOWN:
            return unknown
        if piece.type == _CONTROL:
            # It returns a list only if it is given one.
            return cast(int, tokenizer.convert_tokens_to_ids(piece.piece))
        return number + offset

    teacher_ids = [teacher_id_of(number) for number in range(len(proto.pieces))]
    added = _added(tokenizer, proto, teacher_ids)
    result = Tokenizer(_model(tokenizer, proto, teacher_ids, added))
    lead = _lead(where, tokenizer)
    original = SentencePieceProcessor(model_file=file)
    result.normalizer = normalizers.Sequence([*lead, *_normalizers(proto, original)])
    scheme = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
    result.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=spec.split_by_whitespace)
    to_text = decoders.Metaspace(prepend_scheme=scheme)
    result.decoder = decoders.Sequence([decoders.ByteFallback(), to_text]) if spec.byte_fallback else to_text
    for probe in _PROBES:
        expected = [teacher_ids[number] for number in original.encode(normalizers.Sequence(lead).normalize_str(probe))]
        if result.encode(probe).ids != expected:
            raise UserError(
                f"{where}: a fast tokenizer cannot reproduce its SentencePiece model: it differs for {probe!r}"
            )
    result.add_tokens([token for _, token in sorted(added.items())])
    if tokenizer.cls_token and tokenizer.sep_token:
        cls, sep = tokenizer.cls_token, tokenizer.sep_token
        result.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} {sep} $B {sep}" if offset else f"{cls} $A {sep} $B {sep}",
            special_tokens=[(cls, tokenizer.cls_token_id), (sep, tokenizer.sep_token_id)],
        )
    return result


def _added(tokenizer: PreTrainedTokenizerBase, proto: ModelProto, teacher_ids: list[int]) -> dict:
    """Returns the added tokens by token id, without user-defined pieces, which the model itself matches."""
    defined = {
        teacher_id for teacher_id, piece in zip(teacher_ids, proto.pieces, strict=True) if piece.type == _USER_DEFINED
    }
    return {
        teacher_id: token for teacher_id, token in tokenizer.added_tokens_decoder.items() if teacher_id not in defined
    }


def _model(
    tokenizer: PreTrainedTokenizerBase, proto: ModelProto, teacher_ids: list[int], added: dict
) -> models.Unigram | models.BPE:
    pieces = dict(zip(teacher_ids, proto.pieces, strict=True))
    matched = {teacher_id: piece for teacher_id, piece in pieces.items() if piece.type in (_NORMAL, _USER_DEFINED)}
    names = {teacher_id: token.content for teacher_id, token in added.items()}
    names |= {teacher_id: piece.piece for teacher_id, piece in pieces.items() if piece.type not in (_UNKNOWN, _CONTROL)}
    names[tokenizer.unk_token_id] = tokenizer.unk_token
    fallback = proto.trainer_spec.byte_fallback
    if proto.trainer_spec.model_type == _BPE:
        ids = {name: teacher_id for teacher_id, name in names.items()}
        # SentencePiece merges the pair whose result has the best score.
        merges = sorted(
            (-piece.score, ids[piece.piece[:cut]], ids[piece.piece[cut:]], piece.piece[:cut], piece.piece[cut:])
            for piece in proto.pieces
            if piece.type == _NORMAL
            for cut in range(1, len(piece.piece))
            if piece.piece[:cut] in ids and piece.piece[cut:] in ids
        )
        pairs = [(left, right) for *_, left, right in merges]
        return models.BPE(ids, pairs, unk_token=tokenizer.unk_token, fuse_unk=True, byte_fallback=fallback)
    lowest = min(piece.score for piece in proto.pieces)

    def score(teacher_id: int) -> float:
        if teacher_id not in matched:
            return lowest - _FAR_BELOW
        comma = type(tokenizer).__name__ == "AlbertTokenizer" and re.search(r"\d,$", matched[teacher_id].piece)
        return matched[teacher_id].score - (_ALBERT_COMMA if comma else 0)

    entries = [
        (names.get(teacher_id, unreachable(teacher_id)), score(teacher_id)) for teacher_id in range(max(names) + 1)
    ]
    return models.Unigram(entries, unk_id=tokenizer.unk_token_id, byte_fallback=fallback)


def _normalizers(proto: ModelProto, original: SentencePieceProcessor) -> list[normalizers.Normalizer]:
    """Returns the normalizers that reproduce SentencePiece's normalization."""
    spec = proto.normalizer_spec
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        # NFC would compose letters too, but would reorder the marks of vocalised Arabic and Hebrew.
        steps += [normalizers.Replace(pair, composed) for pair, composed in _compositions(proto, original)]
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    return steps


def _compositions(proto: ModelProto, original: SentencePieceProcessor) -> list[tuple[str, str]]:
    """Returns the decomposed letters that `Precompiled` would leave decomposed: Indic vowels, voiced kana.

    `Precompiled` looks up grapheme clusters of less than six bytes and otherwise single characters.
    Decomposed Hangul, and letters that lack two marks, are still missed, as in every
    fast tokenizer made from SentencePiece.
    """
    known = {character for piece in proto.pieces for character in piece.piece}
    pairs = []
    for code in range(0x80, 0x10000):
        codes = unicodedata.decomposition(chr(code)).split()
        if len(codes) == 2 and not codes[0].startswith("<"):
            pair = "".join(chr(int(part, 16)) for part in codes)
            # If the model knows none of the three characters, both forms are one unknown token.
            seen = proto.trainer_spec.byte_fallback or known & {chr(code), *pair}
            if seen and len(pair.encode()) >= _CLUSTER_BYTES and original.normalize(pair).endswith(chr(code)):
                pairs.append((pair, chr(code)))
    return pairs


def _lead(where: str, tokenizer: PreTrainedTokenizerBase) -> list[normalizers.Normalizer]:
    """Returns the normalizers that the family applies before SentencePiece."""
    family = type(tokenizer).__name__
    if family == "DebertaV2Tokenizer":
        if tokenizer.split_by_punct:
            raise UserError(
                f"{where}: its setting split_by_punct has no equivalent in fast tokenizers; add a tokenizer.json"
            )
        return [normalizers.Lowercase()] if tokenizer.do_lower_case else []
    if family != "AlbertTokenizer":
        return []
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(Regex(r"[\s\x1c-\x1f\x85]+"), " "),
        normalizers.Replace("``", '"'),
        normalizers.Replace("''", '"'),
    ]
    if not tokenizer.keep_accents:
        marks = "".join(chr(code) for code in range(0x110000) if unicodedata.combining(chr(code)))
        # Recomposed because of Hangul.
        steps += [normalizers.NFKD(), normalizers.Replace(Regex(f"[{marks}]+"), ""), normalizers.NFC()]
    return steps + ([normalizers.Lowercase()] if tokenizer.do_lower_case else [])
