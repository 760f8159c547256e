"""A teacher's tokenizer and what the pipeline must know of it."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.config import TeacherConfig
from pipeline.fast_tokenizer import fast_tokenizer
from pipeline.identity import BYTE_LEVEL, SENTENCEPIECE, WORDPIECE
from schemas.errors import UserError


@dataclass(frozen=True)
class TeacherTokenizer:
    """A teacher's tokenizer and what the pipeline must know of it. Ids are the teacher's own.

    Attributes:
      tokens: own id -> the tokenizer's string, for every token it has.
      roles: special role (`pad`, `unknown`, `start`, `end`, `mask`) -> own id.
      prefix, suffix: the special ids that frame one sequence.
      added: own ids of added tokens, special or not, which no family's rules describe.
    """

    name: str
    hf: PreTrainedTokenizerFast = field(repr=False)
    family: str
    tokens: dict[int, str] = field(repr=False)
    roles: dict[str, int]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    added: frozenset[int] = field(repr=False)

    @cached_property
    def size(self) -> int:
        """One more than the highest own id."""
        return max(self.tokens) + 1

    @cached_property
    def special_ids(self) -> np.ndarray:
        """int32: own ids that are never masked and never drawn as a replacement."""
        return np.unique(np.array([*self.hf.all_special_ids, *self.roles.values()], np.int32))

    @cached_property
    def ordinary_ids(self) -> np.ndarray:
        """int32, ascending: the own ids a random replacement is drawn from."""
        return np.setdiff1d(np.array(sorted(self.tokens), np.int32), self.special_ids)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the tokenizer's whole serialised state."""
        return hashlib.sha256(self.hf.backend_tokenizer.to_str().encode()).hexdigest()


def load_tokenizer(name: str, config: TeacherConfig) -> TeacherTokenizer:
    """Loads and checks a teacher's tokenizer.

    Raises:
      UserError: it cannot be loaded as a fast tokenizer, is of an unknown family, has no
        mask or padding token, or frames sequences with something other than fixed special
        tokens.
    """
    where = f"teacher {name!r} ({config.model})"
    tokenizer = fast_tokenizer(where, config)
    for role in ("mask", "pad"):
        if getattr(tokenizer, f"{role}_token_id") is None:
            raise UserError(f"{where}: its tokenizer has no {role} token; a teacher must be a masked LM that has one")
    # Truncation is ours: a tokenizer.json may carry a length of its own.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    prefix, suffix = _frame(where, tokenizer)
    return TeacherTokenizer(
        name=name,
        hf=tokenizer,
        family=_family(where, tokenizer),
        tokens={own: token for token, own in tokenizer.get_vocab().items()},
        roles=_roles(tokenizer),
        prefix=prefix,
        suffix=suffix,
        added=frozenset(tokenizer.added_tokens_decoder),
    )


def _roles(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Each special role to one own id; an id that serves two roles keeps the first."""
    candidates = {
        "mask": [tokenizer.mask_token_id],
        "pad": [tokenizer.pad_token_id],
        "unknown": [tokenizer.unk_token_id],
        "start": [tokenizer.cls_token_id, tokenizer.bos_token_id],
        "end": [tokenizer.sep_token_id, tokenizer.eos_token_id],
    }
    roles: dict[str, int] = {}
    for role, ids in candidates.items():
        own = next((own for own in ids if own is not None), None)
        if own is not None and own not in roles.values():
            roles[role] = own
    return roles


def _frame(where: str, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special ids before and after a sequence, read off two different probes."""
    frames = set()
    for probe in ("a", "b c"):
        bare = tokenizer(probe, add_special_tokens=False)["input_ids"]
        framed = tokenizer(probe)["input_ids"]
        starts = [i for i in range(len(framed) - len(bare) + 1) if framed[i : i + len(bare)] == bare]
        if not bare or not starts:
            raise UserError(f"{where}: its tokenizer does not frame a sequence with fixed special tokens")
        frames.add((tuple(framed[: starts[0]]), tuple(framed[starts[0] + len(bare) :])))
    if len(frames) != 1:
        raise UserError(f"{where}: its tokenizer frames different texts with different special tokens")
    return frames.pop()


def _family(where: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Which rules of `pipeline.identity` describe the tokenizer's strings."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = state["model"].get("type") or ("WordPiece" if "continuing_subword_prefix" in state["model"] else "")
    parts = {part["type"] for part in _parts(state["pre_tokenizer"]) + _parts(state["decoder"])}
    if kind == "WordPiece" and state["model"]["continuing_subword_prefix"] == "##":
        return WORDPIECE
    if kind == "BPE" and "ByteLevel" in parts:
        return BYTE_LEVEL
    if kind in ("Unigram", "BPE") and "Metaspace" in parts | {_replaces_space(state["normalizer"])}:
        return SENTENCEPIECE
    raise UserError(
        f"{where}: its tokenizer ({kind or 'unknown model'}) is neither WordPiece with ##, "
        "SentencePiece nor byte-level BPE"
    )


def _parts(component: dict | None) -> list[dict]:
    """A tokenizer component and, where it is a sequence, its members."""
    if component is None:
        return []
    inner = component.get("pretokenizers") or component.get("decoders") or component.get("normalizers") or []
    return [component, *(part for member in inner for part in _parts(member))]


def _replaces_space(normalizer: dict | None) -> str | None:
    """`Metaspace` where a normalizer does that pre-tokenizer's work, as in some converted models."""
    return "Metaspace" if any(part.get("content") == "▁" for part in _parts(normalizer)) else None
