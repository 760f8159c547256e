"""Loads and checks a teacher's tokenizer."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.config import TeacherConfig
from pipeline.teachers.exact_tokenizer import load_exact_tokenizer, tokenizer_faults
from pipeline.teachers.family import (
    BYTE_LEVEL,
    CHARACTERS,
    SENTENCEPIECE,
    SPACE_MARK,
    WORD_END,
    WORD_END_MARK,
    WORD_LEVEL,
    WORDPIECE,
)
from pipeline.teachers.tokenizer_json import is_filler
from schemas.errors import UserError
from schemas.secrets import without_secrets
from schemas.vocabulary import TRANSFORMERS_ROLES


@dataclass(frozen=True)
class TeacherTokenizer:
    """A teacher's tokenizer and what the pipeline needs to know about it. All ids are the teacher's token ids.

    Attributes:
      tokens: token id -> the tokenizer's string, for every token it has.
      roles: special role (`pad`, `unknown`, `start`, `end`, `mask`) -> token id; `pad` only if the
        padding token has no other role.
      pad_id: the token id that its model gets as padding.
      prefix, suffix: the special ids that frame one sequence.
      added: token ids of added tokens, special or not, which the rules of no family describe.
    """

    name: str
    hf: PreTrainedTokenizerFast = field(repr=False)
    family: str
    tokens: dict[int, str] = field(repr=False)
    roles: dict[str, int]
    pad_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    added: frozenset[int] = field(repr=False)

    @cached_property
    def size(self) -> int:
        """One more than the highest token id."""
        return max(self.tokens) + 1

    @cached_property
    def special_ids(self) -> np.ndarray:
        """int32, ascending: token ids that are never masked and never drawn as a replacement.

        These are the tokens with a role, those that frame a sequence (such as mBART's language codes), and those that
        the tokenizer's files call special.
        """
        special = {token_id for token_id, token in self.hf.added_tokens_decoder.items() if token.special}
        special.update(self.hf.all_special_ids, self.roles.values(), self.prefix, self.suffix)
        return np.array(sorted(special), np.int32)

    @cached_property
    def ordinary_ids(self) -> np.ndarray:
        """int32, ascending: the token ids that random replacements are drawn from."""
        return np.setdiff1d(np.array(sorted(self.tokens), np.int32), self.special_ids)

    @cached_property
    def starts_word(self) -> np.ndarray:
        """bool [size]: whether a token starts with SentencePiece's mark of a space; False in other families."""
        result = np.zeros(self.size, bool)
        if self.family == SENTENCEPIECE:
            result[[token_id for token_id, token in self.tokens.items() if token.startswith(SPACE_MARK)]] = True
        return result

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the tokenizer's whole serialised state."""
        return hashlib.sha256(self.hf.backend_tokenizer.to_str().encode()).hexdigest()


def load_tokenizer(name: str, config: TeacherConfig) -> TeacherTokenizer:
    """Loads and checks a teacher's tokenizer.

    Raises:
      UserError: it cannot be loaded as a fast tokenizer, is of an unknown family, has no
        mask or padding token, or frames sequences with something other than fixed special
        tokens.
    """
    where = f"teacher {name!r} ({without_secrets(config.model)})"
    # Any exception may mean a fault in its files, because transformers does not check their values.
    with tokenizer_faults(f"{where}: its tokenizer cannot be used"):
        return _load(name, where, config)


def _load(name: str, where: str, config: TeacherConfig) -> TeacherTokenizer:
    tokenizer = load_exact_tokenizer(where, config)
    for role in ("mask", "pad"):
        if getattr(tokenizer, f"{role}_token_id") is None:
            raise UserError(f"{where}: its tokenizer has no {role} token; use a masked LM whose tokenizer has one")
    prefix, suffix = _frame(where, tokenizer)
    result = TeacherTokenizer(
        name=name,
        hf=tokenizer,
        family=family_of(where, tokenizer.backend_tokenizer),
        # A student of this project that serves as a teacher has filler entries for the tokens of other languages.
        tokens={teacher_id: token for token, teacher_id in tokenizer.get_vocab().items() if not is_filler(token)},
        roles=_roles(where, tokenizer, prefix, suffix),
        pad_id=tokenizer.pad_token_id,
        prefix=prefix,
        suffix=suffix,
        added=frozenset(tokenizer.added_tokens_decoder),
    )
    if not len(result.ordinary_ids):
        raise UserError(f"{where}: its tokenizer has special tokens only; copy the tokenizer's files there")
    return result


def _roles(
    where: str, tokenizer: PreTrainedTokenizerBase, prefix: tuple[int, ...], suffix: tuple[int, ...]
) -> dict[str, int]:
    """Returns the token id of each special role; no id has two roles.

    Some teachers use one token for two roles (EuroBERT pads with its end token, and GPT-2's family has one token for
    start, end and unknown). Such a token gets the role that it has in sequences, which is never that of padding.
    """
    if tokenizer.mask_token_id in [
        getattr(tokenizer, f"{name}_token_id") for name, role in TRANSFORMERS_ROLES.items() if role != "mask"
    ]:
        raise UserError(
            f"{where}: its mask token, {tokenizer.mask_token!r}, also has another special role; it cannot be used"
        )
    start = _framing(prefix, tokenizer.cls_token_id, tokenizer.bos_token_id)
    end = _framing(suffix, tokenizer.sep_token_id, tokenizer.eos_token_id)
    if start == end and start in suffix and start not in prefix:
        start = None
    claims = {
        "mask": tokenizer.mask_token_id,
        "start": start,
        "end": end,
        "unknown": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    roles: dict[str, int] = {}
    for role, teacher_id in claims.items():
        if teacher_id is not None and teacher_id not in roles.values():
            roles[role] = teacher_id
    return roles


def _framing(frame: tuple[int, ...], *candidates: int | None) -> int | None:
    """Returns the candidate for a role that frames sequences, else the first candidate."""
    known = [teacher_id for teacher_id in candidates if teacher_id is not None]
    return next((teacher_id for teacher_id in known if teacher_id in frame), known[0] if known else None)


def _frame(where: str, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Finds the special ids before and after a sequence with several different probes."""
    frames = set()
    backend = tokenizer.backend_tokenizer
    # Some of these letters give no tokens if the vocabulary is not that of a language (but of proteins, for example).
    for probe in ("a", "b c", "A", "L K"):
        bare = backend.encode(probe, add_special_tokens=False).ids
        framed = backend.encode(probe)
        # Does not search for the text's tokens, because they may equal those of the frame (unknown tokens may).
        inside = [index for index, special in enumerate(framed.special_tokens_mask) if not special]
        if not bare:
            continue
        start = inside[0] if inside else 0
        if framed.ids[start : start + len(bare)] != bare or len(inside) != len(bare):
            raise UserError(
                f"{where}: its tokenizer does not simply put fixed special tokens around a sequence; it cannot be used"
            )
        frames.add((tuple(framed.ids[:start]), tuple(framed.ids[start + len(bare) :])))
    if not frames:
        raise UserError(f"{where}: its tokenizer gives no tokens for plain text")
    if len(frames) != 1:
        raise UserError(
            f"{where}: its tokenizer puts different special tokens around different texts; it cannot be used"
        )
    return frames.pop()


def family_of(where: str, backend: Tokenizer) -> str:
    """Returns the family, whose rules in `pipeline.vocabulary.identity` describe the tokenizer's strings.

    Raises UserError, which begins with `where`, if no family has such a tokenizer.
    """
    state = json.loads(backend.to_str())
    model = state["model"]
    model_type = model.get("type") or ("WordPiece" if "continuing_subword_prefix" in model else "")
    parts = {part["type"] for part in _parts(state["pre_tokenizer"]) + _parts(state["decoder"])}
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    is_byte_level = "ByteLevel" in parts
    if model_type in ("WordPiece", "BPE") and prefix == "##" and not (suffix or is_byte_level):
        return WORDPIECE
    if model_type in ("WordPiece", "BPE") and is_byte_level and not (prefix or suffix):
        return BYTE_LEVEL
    if model_type == "BPE" and suffix == WORD_END_MARK and not (prefix or is_byte_level):
        return WORD_END
    if model_type in ("Unigram", "BPE") and "Metaspace" in parts | {_replaces_space(state["normalizer"])}:
        return SENTENCEPIECE
    if model_type == "WordLevel":
        added = {token.content for token in backend.get_added_tokens_decoder().values()}
        ordinary = {token for token in model["vocab"].keys() - added if not is_filler(token)}
        return CHARACTERS if 2 * sum(len(token) == 1 for token in ordinary) > len(ordinary) else WORD_LEVEL
    raise UserError(
        f"{where}: its tokenizer ({model_type or 'unknown model'}) is of no supported kind: WordPiece with ## or over bytes, "
        "SentencePiece, byte-level BPE, BPE with </w>, or a vocabulary of words or characters"
    )


def _parts(component: dict | None) -> list[dict]:
    """Returns a tokenizer component and, if it is a sequence, its members."""
    if component is None:
        return []
    inner = component.get("pretokenizers") or component.get("decoders") or component.get("normalizers") or []
    return [component, *(part for member in inner for part in _parts(member))]


def _replaces_space(normalizer: dict | None) -> str | None:
    """Returns `Metaspace` if a normalizer does that pre-tokenizer's work, as in some converted models."""
    return "Metaspace" if any(part.get("content") == "▁" for part in _parts(normalizer)) else None
