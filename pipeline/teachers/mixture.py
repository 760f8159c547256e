"""A teacher of several models that share one vocabulary: it predicts the weighted mean of their distributions.

Legend: M masked positions, V vocabulary, C positions of one chunk.
"""

import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.config import TeacherConfig
from pipeline.teachers.forward import Forward
from pipeline.teachers.tokenizer import TeacherTokenizer, load_tokenizer
from pipeline.teachers.top_k import log_normalizer
from schemas.errors import UserError
from schemas.secrets import without_secrets

# Logits processed at a time.
_CHUNK = 2**19


class Mixture:
    """Combines the forward passes of several models, with the attributes of `Forward`.

    Models may pad the vocabulary to different sizes: one with fewer columns gives the missing columns no probability.
    """

    def __init__(self, forwards: Sequence[Forward], weights: Sequence[float], device: torch.device):
        self._forwards = forwards
        self._weights = weights
        self._device = device
        self.head_everywhere = next((forward.head_everywhere for forward in forwards if forward.head_everywhere), "")
        self.padding_reaches = max(forward.padding_reaches for forward in forwards)
        self.concurrent = all(forward.concurrent for forward in forwards)
        self.vocabulary = max(forward.vocabulary for forward in forwards)

    def logits(self, ids_BL: np.ndarray, attention_mask_BL: np.ndarray, rows_M: np.ndarray) -> torch.Tensor:
        """Returns float32 [M, V] at `rows_M` (indices into the flattened batch): log sum_i w_i p_i over models i."""
        mixed_MV = torch.full((len(rows_M), self.vocabulary), -torch.inf, device=self._device)
        for forward, weight in zip(self._forwards, self._weights, strict=True):
            add_distribution(mixed_MV, forward.logits(ids_BL, attention_mask_BL, rows_M), weight)
        return mixed_MV


def add_distribution(mixed_MV: torch.Tensor, logits_MV: torch.Tensor, weight: float) -> None:
    """Sets mixed = log(exp(mixed) + weight * softmax(logits)), in place and a few rows at a time.

    As logarithms, no probabilities are too small for float32.

    Args:
      mixed_MV: float32, -inf where nothing was added yet.
      logits_MV: any dtype; may have fewer columns.
    """
    width = logits_MV.shape[1]
    shift_M = log_normalizer(logits_MV) - math.log(weight)
    size = max(1, _CHUNK // width)
    chunks = zip(mixed_MV[:, :width].split(size), logits_MV.split(size), shift_M.split(size), strict=True)
    for mixed_CV, logits_CV, shift_C in chunks:
        mixed_CV.copy_(torch.logaddexp(mixed_CV, logits_CV.float() - shift_C[:, None]))


def check_mixture(tokenizer: TeacherTokenizer, config: TeacherConfig) -> None:
    """Raises UserError if another model of a teacher has a different vocabulary than `tokenizer`, its first model's."""
    for part in config.parts[1:]:
        other = load_tokenizer(tokenizer.name, part)
        if (other.tokens, other.roles) == (tokenizer.tokens, tokenizer.roles):
            continue
        unlike = [
            teacher_id
            for teacher_id in sorted(tokenizer.tokens.keys() | other.tokens.keys())
            if tokenizer.tokens.get(teacher_id) != other.tokens.get(teacher_id)
        ]
        what = "its special tokens have other roles"
        if unlike:
            ours, theirs = (tokens.get(unlike[0]) for tokens in (tokenizer.tokens, other.tokens))
            what = f"token {unlike[0]} is {theirs!r}, not {ours!r}"
        raise UserError(
            f"teacher {tokenizer.name!r}: {without_secrets(part.model)} has another vocabulary than "
            f"{without_secrets(config.model)} ({what}), so their predictions cannot be averaged; make it a separate "
            "teacher with a share of the language"
        )


def mixture_fingerprint(fingerprints: Sequence[str], weights: Sequence[float]) -> str:
    """Returns a teacher's fingerprint, made from its models' fingerprints; a single model's is returned unchanged."""
    if len(fingerprints) == 1:
        return fingerprints[0]
    return hashlib.sha256(json.dumps([*zip(fingerprints, weights, strict=True)]).encode()).hexdigest()
