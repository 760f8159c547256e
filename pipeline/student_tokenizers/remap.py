"""A teacher's tokenizer with merged ids: the same segmentation with different ids.

Everything that determines the segmentation (normaliser, pre-tokenizer, merges, scores,
post-processor) is kept unchanged; only ids change. The result is a plain
`tokenizer.json` that `AutoTokenizer` loads without any code of this project.
"""

import copy
import json
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import AddedToken, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pipeline.teachers.tokenizer_json import ROLE_NAMES, is_filler, merged_piece, unreachable
from schemas.errors import UserError


def remap_state(state: dict[str, Any], to_merged: np.ndarray) -> dict[str, Any]:
    """Returns a `tokenizer.json` state with every id replaced by `to_merged[id]`.

    Tokens that `to_merged` maps to -1 are left out, and text that gave them is cut into
    smaller pieces. A BPE model must keep the pieces that a kept token is merged from.

    A Unigram model's ids are list positions, so positions without a token of this
    teacher are filled with entries that no text can match. Their score is the lowest of
    the real scores, from which the unknown penalty is derived.
    """
    # Copies only what it changes in place, because the rest may be hundreds of thousands of tokens and merges.
    state = state | {"model": dict(state["model"]), "post_processor": copy.deepcopy(state["post_processor"])}
    state["added_tokens"] = [
        added | {"id": int(to_merged[added["id"]])} for added in state["added_tokens"] if to_merged[added["id"]] >= 0
    ]
    model = state["model"]
    # The loader assigns an id to each added token that the model's vocabulary lacks, so it must not lack any.
    added_ids = {added["content"]: added["id"] for added in state["added_tokens"]}
    if isinstance(model["vocab"], list):
        lowest = min(score for _, score in model["vocab"])
        placed = {
            int(to_merged[teacher_id]): entry
            for teacher_id, entry in enumerate(model["vocab"])
            if not is_filler(entry[0]) and to_merged[teacher_id] >= 0
        }
        placed = {merged: [token, lowest] for token, merged in added_ids.items()} | placed
        model["vocab"] = [placed.get(merged, [unreachable(merged), lowest]) for merged in range(max(placed) + 1)]
        if model.get("unk_id") is not None:
            model["unk_id"] = int(to_merged[model["unk_id"]])
    else:
        kept = {
            token: int(to_merged[teacher_id])
            for token, teacher_id in model["vocab"].items()
            if not is_filler(token) and to_merged[teacher_id] >= 0
        }
        model["vocab"] = kept | added_ids
    if "merges" in model:
        vocabulary = model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if left in vocabulary and right in vocabulary and merged_piece(model, left, right) in vocabulary
        ]
    _remap_post_processor(state["post_processor"], to_merged)
    state["padding"] = state["truncation"] = None
    return state


def fill_vocabulary(state: dict[str, Any], size: int) -> None:
    """Adds to a `tokenizer.json` state an entry that no text matches for each id below `size` that it lacks.

    The tokenizer's length is then `size`, so that the next token added to it gets that id, and
    `model.resize_token_embeddings(len(tokenizer))` cuts off no rows. Its segmentation does not change.
    """
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, list):
        lowest = min(score for _, score in vocabulary)
        vocabulary += [[unreachable(merged), lowest] for merged in range(len(vocabulary), size)]
    else:
        missing = np.setdiff1d(np.arange(size), list(vocabulary.values()))
        vocabulary |= {unreachable(merged): merged for merged in missing.tolist()}


def _remap_post_processor(processor: dict[str, Any] | None, to_merged: np.ndarray) -> None:
    if processor is None:
        return
    for member in processor.get("processors", []):
        _remap_post_processor(member, to_merged)
    if processor["type"] == "TemplateProcessing":
        for special in processor["special_tokens"].values():
            special["ids"] = [int(to_merged[teacher_id]) for teacher_id in special["ids"]]
    for end in ("cls", "sep"):
        if end in processor:
            token, teacher_id = processor[end]
            processor[end] = [token, int(to_merged[teacher_id])]


def remap_tokenizer(
    tokenizer: PreTrainedTokenizerBase, to_merged: np.ndarray, pad_id: int | None = None
) -> PreTrainedTokenizerFast:
    """Returns `tokenizer` with merged ids, as a class that loads `tokenizer.json` unchanged.

    Args:
      pad_id: the merged id to pad with; the tokenizer's own padding token may have another id.
    """
    state = remap_state(json.loads(tokenizer.backend_tokenizer.to_str()), to_merged)
    added: dict[int, AddedToken] = tokenizer.added_tokens_decoder
    specials = {}
    for name in ROLE_NAMES:
        teacher_id = getattr(tokenizer, f"{name}_id")
        if teacher_id is not None:
            # Passed as an AddedToken, to keep flags such as <mask>'s lstrip.
            specials[name] = added.get(teacher_id, getattr(tokenizer, name))
    if pad_id is not None and to_merged[tokenizer.pad_token_id] != pad_id:
        specials["pad_token"] = _add_pad(state, pad_id)
    remapped = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        **specials,
    )
    for teacher_id, token in added.items():
        if to_merged[teacher_id] >= 0 and remapped.convert_tokens_to_ids(token.content) != to_merged[teacher_id]:
            raise AssertionError(f"the added token {token.content!r} has another id than {to_merged[teacher_id]}")
    return remapped


def _add_pad(state: dict[str, Any], pad_id: int) -> AddedToken:
    """Adds to a `tokenizer.json` state the padding-only token that `pipeline.vocabulary.merge` has added."""
    vocabulary = state["model"]["vocab"]
    is_unigram = isinstance(vocabulary, list)
    taken, content = {entry for entry, _ in vocabulary} if is_unigram else vocabulary, "<pad>"
    while content in taken:
        content = f"<{content}>"
    if is_unigram:
        lowest = min(score for _, score in vocabulary)
        vocabulary += [[unreachable(merged), lowest] for merged in range(len(vocabulary), pad_id + 1)]
        vocabulary[pad_id] = [content, lowest]
    else:
        vocabulary[content] = pad_id
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    state["added_tokens"].append({"id": pad_id, "content": content, **flags})
    return AddedToken(content, normalized=False, special=True)


def check_remapped(
    where: str,
    tokenizer: PreTrainedTokenizerBase,
    remapped: PreTrainedTokenizerBase,
    to_merged: np.ndarray,
    texts: list[str],
) -> None:
    """Raises UserError if for a text `remapped` does not give `tokenizer`'s mapped ids, or decodes them differently.

    Args:
      where: names the teacher and the texts in the error.
    """
    pairs = zip(
        texts, *(one(texts, verbose=False)["input_ids"] if texts else [] for one in (tokenizer, remapped)), strict=True
    )
    for text, ids, merged in pairs:
        if to_merged[ids].tolist() != merged or tokenizer.decode(ids) != remapped.decode(merged):
            raise UserError(
                f"{where}: with merged ids, its tokenizer segments or decodes this text differently: {text[:80]!r}"
            )
