"""The pseudo-likelihood of text under a masked LM, within words from left to right.

Kauf and Ivanova 2023, "A Better Way to Do Masked Language Model Scoring" (arXiv 2305.10588): to score a token, it and the
later tokens of its word are masked. If only the token is masked (Salazar et al. 2020), words of several tokens become too
likely, because the rest of the word gives the token away, so models that split words more would look better.

Legend: N texts, P pieces, T tokens, S scored tokens, B variants of one batch, L padded length.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from schemas.errors import UserError
from schemas.ragged import ranges
from trainer.evaluation.masked_forward import MaskedForward
from trainer.evaluation.models import Model
from trainer.evaluation.pieces import Pieces, make_pieces

# The cost of a character hidden in an unknown token: a uniform choice among all code points. Without this cost, a smaller
# vocabulary would look better.
UNKNOWN_BITS = math.log2(0x110000)
# Characters of text that are tokenized, and whose variants are sorted by length, at a time.
_WINDOW = 2**17


@dataclass(frozen=True)
class TextScores:
    """N texts under one model.

    Attributes:
      bits_N: float64: -log2 of the pseudo-likelihood, with UNKNOWN_BITS for each unknown character.
      characters_N, unknown_N, changed_N: as in `Pieces`.
    """

    bits_N: np.ndarray
    characters_N: np.ndarray
    unknown_N: np.ndarray
    changed_N: np.ndarray


def score_texts(texts: Iterable[str], model: Model, language: str, max_length: int, batch_tokens: int) -> TextScores:
    """Scores texts of one language, in bounded memory.

    Args:
      max_length: tokens of a piece; the model may allow fewer.
      batch_tokens: padded tokens per batch.

    Raises:
      UserError: the model or its tokenizer cannot be used.
    """
    tokenizer = model.tokenizer(language)
    max_length = min(max_length, model.max_length)
    forward = None
    scores = []
    try:
        for window in _windows(texts):
            pieces = make_pieces(window, tokenizer, max_length)
            if forward is None and len(pieces.ids_T):
                pad_id = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
                longest = int(pieces.lengths_P.argmax())
                start = pieces.lengths_P[:longest].sum()
                tried = pieces.ids_T[start : start + pieces.lengths_P[longest]]
                forward = MaskedForward(model.masked_lm, tried, pad_id, f"models.{model.name}")
            bits_N = UNKNOWN_BITS * pieces.unknown_N
            if forward is not None:
                nats_S = -log_probabilities(forward, pieces, tokenizer.mask_token_id, batch_tokens)
                if not np.isfinite(nats_S).all():
                    raise UserError(
                        f"models.{model.name}: gives NaN or infinite probabilities for text of {language}; its weights "
                        "are damaged"
                    )
                text_S = np.repeat(pieces.text_P, pieces.lengths_P)[pieces.word_ends_T > 0]
                bits_N = bits_N + np.bincount(text_S, nats_S, len(window)) / math.log(2)
            scores.append([bits_N, pieces.characters_N, pieces.unknown_N, pieces.changed_N])
    finally:
        if forward is not None:
            forward.close()
    return TextScores(*(np.concatenate(parts) for parts in zip(*scores, strict=True)))


def log_probabilities(forward: MaskedForward, pieces: Pieces, mask_id: int, batch_tokens: int) -> np.ndarray:
    """Returns float64 [S], in nats: of each token except the special ones around pieces, in order.

    Each token has one variant of its piece. The variants of all pieces are made at once and run by length:

        piece     <s> the river ##s flow </s>
        variants  <s> [M] river ##s flow </s>
                  <s> the [M]   [M] flow </s>
                  <s> the river [M] flow </s>
                  <s> the river ##s [M]  </s>
    """
    scored_S = np.flatnonzero(pieces.word_ends_T)
    starts_P = np.cumsum(pieces.lengths_P) - pieces.lengths_P
    piece_S = np.repeat(np.arange(len(starts_P)), pieces.lengths_P)[scored_S]
    position_S = scored_S - starts_P[piece_S]
    lengths_S = pieces.lengths_P[piece_S]
    logprobs_S = np.empty(len(scored_S))
    for batch in forward.batches(lengths_S, batch_tokens):
        tokens = ranges(starts_P[piece_S[batch]], lengths_S[batch])
        ids_BL, attention_mask_BL = forward.pad(pieces.ids_T[tokens], lengths_S[batch])
        column_L = np.arange(ids_BL.shape[1])
        position_B1, word_end_B1 = position_S[batch, None], pieces.word_ends_T[scored_S[batch], None]
        ids_BL[(position_B1 <= column_L) & (column_L < word_end_B1)] = mask_id
        rows_B = np.arange(len(batch)) * len(column_L) + position_S[batch]
        logprobs_S[batch] = forward.log_probabilities(ids_BL, attention_mask_BL, rows_B, pieces.ids_T[scored_S[batch]])
    return logprobs_S


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    window: list[str] = []
    size = 0
    for text in texts:
        window.append(text)
        size += len(text)
        if size >= _WINDOW:
            yield window
            window, size = [], 0
    if window:
        yield window
