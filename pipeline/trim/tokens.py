"""Finds the merged tokens that the corpora use, and rewrites rows to only these: pure functions of `pipeline.trim`."""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

from pipeline.shard.tail_uniforms import tail_uniforms
from pipeline.teachers.tokenizer_json import is_filler, merged_piece
from pipeline.vocabulary.identity import byte_alphabet
from schemas.ragged import flatten, list_array
from schemas.rows import row_schema
from schemas.vocabulary import SPECIAL_ROLES, Vocabulary

NO_KEYS = np.empty(0, np.uint64)
# How SentencePiece writes the bytes of a character that has no token.
_BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]


@dataclass(frozen=True)
class Usage:
    """How often the corpora use each of V merged tokens: int64 [V] each.

    Attributes:
      emitted: uses in the text as the teachers segment it, before masking.
      predicted: uses among the top-k. Samples of the tail do not count: almost any token is drawn at some time.
    """

    emitted: np.ndarray
    predicted: np.ndarray

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.emitted + other.emitted, self.predicted + other.predicted)

    def to_bytes(self) -> bytes:
        """Returns both counts as a compressed Arrow stream."""
        table = pa.table({"emitted": self.emitted, "predicted": self.predicted})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(table)
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Usage":
        """Reads the result of `to_bytes`."""
        table = pa.ipc.open_stream(content).read_all()
        return cls(table["emitted"].to_numpy(), table["predicted"].to_numpy())


def count_usage(rows: pa.Table, size: int) -> Usage:
    """Counts the tokens of `rows` (`schemas.rows`). A replaced token counts as the token that it replaced."""
    ids, starts, _ = flatten(rows["input_ids"])
    positions, _, counts = flatten(rows["masked_positions"])
    original = ids.copy()
    original[np.repeat(starts, counts) + positions] = flatten(rows["labels"])[0]
    topk = flatten(rows["topk_ids"])[0]
    return Usage(np.bincount(original, minlength=size), np.bincount(topk[topk >= 0], minlength=size))


def kept_tokens(
    usage: Usage, vocabulary: Vocabulary, tokenizers: dict[str, PreTrainedTokenizerFast], min_predicted: int = 1
) -> np.ndarray:
    """Returns bool [V]: the merged tokens to keep.

    These are special tokens; emitted tokens; tokens predicted at least `min_predicted`
    times; the bytes of byte-level BPE, and those that SentencePiece falls back on; the
    pieces from which BPE merges any of these; and the least probable piece of each Unigram.

    Args:
      tokenizers: the teachers', with merged ids.
    """
    kept = (usage.emitted > 0) | (usage.predicted >= max(1, min_predicted))
    kept |= np.isin(vocabulary.roles, SPECIAL_ROLES)
    for tokenizer in tokenizers.values():
        kept[tokenizer.all_special_ids] = True
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        model = state["model"]
        if isinstance(model["vocab"], list):
            # The unknown penalty of a Unigram model depends on its lowest score.
            scores = {merged: score for merged, (entry, score) in enumerate(model["vocab"]) if not is_filler(entry)}
            kept[min(scores, key=scores.__getitem__)] = True
            ids = {entry: merged for merged, (entry, _) in enumerate(model["vocab"])}
        else:
            ids = model["vocab"]
        if model.get("byte_fallback"):
            kept[[ids[piece] for piece in _BYTE_PIECES if piece in ids]] = True
        if "ByteLevel" in json.dumps([state["pre_tokenizer"], state["decoder"]]):
            kept[[ids[character] for character in byte_alphabet() if character in ids]] = True
        # Latest merges first, so that a kept token keeps its pieces, and these keep theirs.
        for left, right in reversed(model.get("merges", [])):
            if kept[ids[merged_piece(model, left, right)]]:
                kept[[ids[left], ids[right]]] = True
    return kept


def tokens_within(vocabulary: Vocabulary, smaller: Vocabulary) -> np.ndarray:
    """Returns bool [V]: the tokens of `vocabulary` that `smaller` has."""
    wanted = set(zip(smaller.roles, smaller.tokens, strict=True))
    return np.array([written in wanted for written in zip(vocabulary.roles, vocabulary.tokens, strict=True)])


def trim_vocabulary(vocabulary: Vocabulary, kept: np.ndarray) -> tuple[Vocabulary, np.ndarray]:
    """Returns the kept tokens in order, and int32 [V]: merged ids to trimmed ids, -1 for those left out."""
    chosen = np.flatnonzero(kept)
    table = np.full(len(vocabulary), -1, np.int32)
    table[chosen] = np.arange(len(chosen), dtype=np.int32)
    trimmed = Vocabulary(
        [vocabulary.tokens[i] for i in chosen],
        [vocabulary.roles[i] for i in chosen],
        {name: ids[chosen] for name, ids in vocabulary.teacher_ids.items()},
    )
    return trimmed, table


def trim_rows(
    rows: pa.Table,
    table: np.ndarray,
    unknown: int,
    top_k: int,
    tail_samples: int = 0,
    keys_N: np.ndarray = NO_KEYS,
) -> pa.Table:
    """Returns `rows` in trimmed ids.

    Inputs that were left out (random replacements; in other text, rare words) become
    `unknown`. Targets that were left out are no longer targets, and rows without a
    target are dropped. Predictions that were left out keep their place among the top-k, as
    -1 with log-probability -inf. So do samples of the tail, as -1.

    Args:
      keys_N: uint64, a key for each row that no earlier step used; needed only if there are samples of the tail.
    """
    positions, starts, counts = flatten(rows["masked_positions"])
    labels = table[flatten(rows["labels"])[0]]
    inside = labels >= 0
    left = np.add.reduceat(np.append(inside, False), starts) * (counts > 0) if len(rows) else counts
    ends = np.concatenate([[0], np.cumsum(left)])

    ids, id_starts, _ = flatten(rows["input_ids"])
    trimmed = table[ids]
    columns = {name: rows[name] for name in row_schema(tail_samples).names}
    columns["input_ids"] = list_array(np.where(trimmed < 0, np.int32(unknown), trimmed), np.append(id_starts, len(ids)))
    columns["masked_positions"] = list_array(positions[inside], ends)
    columns["labels"] = list_array(labels[inside], ends)
    if top_k:
        columns["label_logprobs"] = list_array(flatten(rows["label_logprobs"])[0][inside], ends)
        ids_MK = flatten(rows["topk_ids"])[0].reshape(-1, top_k)[inside]
        ids_MK = _trimmed_ids(table, ids_MK)
        stored_MK = flatten(rows["topk_logprobs"])[0].reshape(-1, top_k)[inside]
        logprobs_MK = np.where(ids_MK < 0, np.float16(-np.inf), stored_MK)
        columns["topk_ids"] = list_array(ids_MK.ravel(), ends * top_k)
        columns["topk_logprobs"] = list_array(logprobs_MK.ravel(), ends * top_k)
    if tail_samples:
        keys_M = np.repeat(keys_N, counts)[inside]
        tail_ids_MS = _trimmed_ids(table, flatten(rows["tail_ids"])[0].reshape(-1, tail_samples)[inside])
        is_moved_MS = tail_uniforms(keys_M, positions[inside], tail_samples) < _moved(stored_MK, logprobs_MK)[:, None]
        columns["tail_ids"] = list_array(np.where(is_moved_MS, np.int32(-1), tail_ids_MS).ravel(), ends * tail_samples)
    return pa.table(columns, schema=row_schema(tail_samples)).filter(pa.array(left > 0))


def _trimmed_ids(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns int32: `ids` mapped by `table`; -1 stays, as in rows that were trimmed before."""
    return np.where(ids < 0, np.int32(-1), table[ids])


def _moved(before_MK: np.ndarray, after_MK: np.ndarray) -> np.ndarray:
    """Returns float64 [M]: the share of the tail's mass that belonged to top-k predictions before they were left out.

    With this probability, a sample of the tail would be one of them, so it becomes -1. Otherwise the samples would
    stand for mass that they were not drawn from.
    """
    top_before_M, top_after_M = (np.exp(x.astype(np.float64)).sum(1) for x in (before_MK, after_MK))
    moved_M = top_before_M - top_after_M
    tail_M = moved_M + np.maximum(1 - top_before_M, 0)
    return np.divide(moved_M, tail_M, out=np.zeros_like(tail_M), where=moved_M > 0)


def trim_words(words: pa.Table, table: np.ndarray) -> pa.Table:
    """Returns the words whose tokens are all kept, in trimmed ids."""
    ids, starts, _ = flatten(words["ids"])
    trimmed = table[ids]
    trimmed_lists = list_array(trimmed, np.append(starts, len(ids)))
    words = words.set_column(words.schema.get_field_index("ids"), "ids", trimmed_lists)
    left_out = np.add.reduceat(np.append(trimmed < 0, False), starts) if len(starts) else np.empty(0, int)
    return words.filter(pa.array(left_out == 0))
