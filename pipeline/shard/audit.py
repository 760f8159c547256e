"""The audit: compares a teacher's stored predictions with its full distribution.

Legend: M masked positions, V the teacher's vocabulary, K top-k, S tail samples. Sums are over positions.
"""

import numpy as np
import pyarrow as pa

from pipeline.shard.parquet import AuditSums
from pipeline.teachers.predictor import Predictor
from schemas.ragged import flatten
from schemas.rows import HIGHEST_LOG_MASS


def audit(rows: pa.Table, to_teacher: np.ndarray, predictor: Predictor, top_k: int, tail_samples: int = 0) -> AuditSums:
    """Predicts stored rows (`schemas.rows`) again, each one alone, and compares all V log-probabilities.

    Args:
      to_teacher: int [merged vocabulary], from merged ids to the teacher's.
    """
    sums = AuditSums()
    for index in range(len(rows)):
        row = rows.slice(index, 1)
        input_ids, positions, labels, topk_ids, topk_logprobs = (
            flatten(row[name])[0] for name in ("input_ids", "masked_positions", "labels", "topk_ids", "topk_logprobs")
        )
        full_MV = predictor.log_distributions(to_teacher[input_ids], positions).astype(np.float64)
        ids_MK = to_teacher[topk_ids].reshape(-1, top_k)
        stored_MK = topk_logprobs.reshape(-1, top_k).astype(np.float64)
        exact_MK = np.take_along_axis(full_MV, ids_MK, 1)
        sums.rows += 1
        sums.positions += len(positions)
        sums.kl += kl_from_full(full_MV, ids_MK, stored_MK).sum()
        sums.kl_top_k += kl_from_full(full_MV, ids_MK, exact_MK).sum()
        sums.tail += (1 - np.exp(exact_MK).sum(1)).sum()
        if tail_samples:
            tail_ids_MS = to_teacher[flatten(row["tail_ids"])[0]].reshape(-1, tail_samples)
            difference_M = sampled_difference(full_MV, ids_MK, stored_MK, tail_ids_MS)
            sums.sampled_error += np.abs(difference_M).sum()
            sums.sampled_bias += difference_M.sum()
        sums.correct += int((ids_MK[:, 0] == to_teacher[labels]).sum())
    return sums


def kl_from_full(full_MV: np.ndarray, ids_MK: np.ndarray, logprobs_MK: np.ndarray) -> np.ndarray:
    """Returns float64 [M], in nats: KL(full || kept), with the mass outside the kept K spread evenly over the rest."""
    vocabulary, k = full_MV.shape[1], ids_MK.shape[1]
    full_MK = np.take_along_axis(full_MV, ids_MK, 1)
    full_tail_M = np.maximum(1 - np.exp(full_MK).sum(1), 0)
    kept_tail_M = np.maximum(1 - np.exp(logprobs_MK).sum(1), np.finfo(np.float32).tiny)
    negative_entropy_M = (np.exp(full_MV) * full_MV).sum(1)
    tail_M = full_tail_M * (np.log(kept_tail_M) - np.log(max(1, vocabulary - k)))
    return negative_entropy_M - (np.exp(full_MK) * logprobs_MK).sum(1) - tail_M


def sampled_difference(
    full_MV: np.ndarray, ids_MK: np.ndarray, logprobs_MK: np.ndarray, tail_ids_MS: np.ndarray
) -> np.ndarray:
    """Returns float64 [M], in nats: estimated minus exact cross-entropy of a student that predicts like the teacher.

    The estimate is that of the loss `tail: sampled`: it uses the stored top-k, and each sample stands for 1/S of the
    remaining mass, which is at least about 1e-6 (`schemas.rows.HIGHEST_LOG_MASS`).
    """
    probabilities_MK = np.exp(logprobs_MK)
    tail_M = -np.expm1(np.minimum(np.log(probabilities_MK.sum(1)), HIGHEST_LOG_MASS))
    of_top_k_M = (probabilities_MK * np.take_along_axis(full_MV, ids_MK, 1)).sum(1)
    of_tail_M = tail_M * np.take_along_axis(full_MV, tail_ids_MS, 1).mean(1)
    return (np.exp(full_MV) * full_MV).sum(1) - of_top_k_M - of_tail_M
