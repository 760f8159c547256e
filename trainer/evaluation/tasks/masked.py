"""Masked-token prediction on plain text.

Legend: M masked tokens, C those of one chunk, V the model's vocabulary, K summed predictions, N bins.
"""

from typing import ClassVar, NamedTuple

import numpy as np
import torch

from trainer.evaluation.batches import batches_of, forward_of
from trainer.evaluation.masking import MaskedText, mask_text, questions
from trainer.evaluation.models import Model
from trainer.evaluation.tasks.plain_text import PlainTextTask
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores

_BINS = 10
# Logits processed at a time.
_CHUNK = 2**24


class Masked(PlainTextTask):
    """How well a model predicts masked tokens: 15 % of each record's, all replaced by the mask token.

    Log-probabilities are over the model's whole vocabulary, so accuracy and nats are only comparable between models that
    predict the same tokens; even then, the one with the larger vocabulary has more to choose from.
    """

    key, title = "masked", "masked tokens"
    metrics: ClassVar = (
        Metric("accuracy", "accuracy"),
        Metric("nll", "nats per masked token", higher_is_better=False),
        Metric("tail_mass", "tail mass", higher_is_better=False, ranks=False),
    )
    needs_mask_token = True
    settings = ("max_length", "top_k")

    def run(self, job: Job, model: Model) -> list[Scores]:
        """Scores the masked tokens of one language's text."""
        records = list(self.texts[job.language])
        masked = mask_text(records, model.tokenizer(job.language), min(self.config.max_length, model.max_length))
        predicted = predict(masked, model, job.language, self.config.top_k, self.config.batch_tokens)
        counts_U = np.bincount(masked.record_M, minlength=len(records)).astype(float)
        values = {"accuracy": predicted.is_correct_M, "nll": -predicted.logprob_M, "tail_mass": predicted.tail_M}
        ratios = {
            key: Ratio(np.bincount(masked.record_M, values_M, len(records)), counts_U)
            for key, values_M in values.items()
        }
        figures = calibration(predicted.confidence_M, predicted.is_correct_M)
        return [Scores(job.language, ratios, figures, questions(masked, records, model.tokenizer(job.language)))]


class Predicted(NamedTuple):
    """Predictions of M masked tokens, float64 [M] each: the log-probability of the label in nats; whether the label is the
    top prediction; the probability of the top prediction; the total probability outside of the top K predictions.
    """

    logprob_M: np.ndarray
    is_correct_M: np.ndarray
    confidence_M: np.ndarray
    tail_M: np.ndarray


def predict(masked: MaskedText, model: Model, language: str, top_k: int, batch_tokens: int) -> Predicted:
    """Runs a model on masked text, with its head at masked tokens only."""
    figures_4M = np.zeros((4, len(masked.labels_M)))
    if not len(masked.labels_M):
        return Predicted(*figures_4M)
    with forward_of(model, language, masked) as forward:
        for batch in batches_of(masked, forward, batch_tokens):
            logits_MV = forward.logits(batch.ids_BL, batch.attention_mask_BL, batch.rows_M)
            size = max(1, _CHUNK // logits_MV.shape[1])
            for start in range(0, len(batch.rows_M), size):
                chunk = batch.targets[start : start + size]
                figures_4M[:, chunk] = _figures(logits_MV[start : start + size], masked.labels_M[chunk], top_k)
    return Predicted(*figures_4M)


def _figures(logits_CV: torch.Tensor, labels_C: np.ndarray, top_k: int) -> np.ndarray:
    """Returns float64 [4, C], in the order of `Predicted`."""
    labels = torch.from_numpy(labels_C).to(logits_CV.device)
    total_C = logits_CV.logsumexp(1)
    top_CK = logits_CV.topk(min(top_k, logits_CV.shape[1]))
    probabilities_CK = (top_CK.values - total_C[:, None]).double().exp()
    figures = [
        (logits_CV.gather(1, labels[:, None])[:, 0] - total_C).double(),
        (top_CK.indices[:, 0] == labels).double(),
        probabilities_CK[:, 0],
        (1 - probabilities_CK.sum(1)).clamp(min=0),
    ]
    return torch.stack(figures).cpu().numpy()


def calibration(confidence_M: np.ndarray, is_correct_M: np.ndarray) -> dict[str, float]:
    """Compares how often top predictions are right with their probability, in ten bins of equal width (Guo et al. 2017).

    Returns `ece`, the mean of the bins' |accuracy - confidence| weighted by their counts, then `calibration_count_N`, and for
    bins that are not empty `calibration_confidence_N` and `calibration_accuracy_N`. Bin N is (N / 10, (N + 1) / 10].
    """
    bin_M = np.clip(np.ceil(confidence_M * _BINS).astype(np.int64) - 1, 0, _BINS - 1)
    count_N = np.bincount(bin_M, minlength=_BINS)
    confidence_N, correct_N = (np.bincount(bin_M, values_M, _BINS) for values_M in (confidence_M, is_correct_M))
    figures = {"ece": float(np.abs(correct_N - confidence_N).sum() / len(bin_M))} if len(bin_M) else {}
    figures |= {f"calibration_count_{number}": float(count) for number, count in enumerate(count_N)}
    for number in np.flatnonzero(count_N).tolist():
        figures[f"calibration_confidence_{number}"] = float(confidence_N[number] / count_N[number])
        figures[f"calibration_accuracy_{number}"] = float(correct_N[number] / count_N[number])
    return figures
