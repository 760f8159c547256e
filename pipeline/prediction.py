"""Teacher inference: the top-k predictions at masked positions, and nothing else.

Legend: B batch, L padded length, M masked positions, K top-k, V the teacher's vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from pipeline.config import TeacherConfig
from pipeline.teacher_tokenizer import TeacherTokenizer
from schemas.errors import UserError
from schemas.ragged import batches_by_length, pad, ranges

# Float32 logits held at once, [M, V]: 2^26 are 256 MiB.
_LOGITS = 2**26


@dataclass(frozen=True)
class Predictions:
    """What a teacher said at M positions, in its own ids.

    Attributes:
      label_logprobs: float32 [M], in nats, over its whole vocabulary at temperature 1.
      topk_ids: int32 [M, K], most probable first.
      topk_logprobs: float16 [M, K], descending.
    """

    label_logprobs: np.ndarray
    topk_ids: np.ndarray
    topk_logprobs: np.ndarray


class Predictor:
    """A teacher ready to predict. Its vocabulary head runs at masked positions only.

    A forward hook hands the model's own head the encoder's output at those positions
    instead of all of it, so every architecture keeps its own head code.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: TeacherTokenizer, config: TeacherConfig, top_k: int):
        self._device = choose_device(config.device)
        self._model = model.to(self._device, getattr(torch, config.dtype)).eval()
        self._pad = tokenizer.roles["pad"]
        self._top_k = top_k
        self._name = tokenizer.name
        self._rows_M: torch.Tensor | None = None
        self._model.base_model.register_forward_hook(self._keep_rows)
        # Rows of the head that no token of the tokenizer stands for (padding of the
        # vocabulary) count in the normaliser but are never among the top-k.
        rows = self._model.get_input_embeddings().num_embeddings
        nameless = np.setdiff1d(np.arange(rows), np.fromiter(tokenizer.tokens, np.int64))
        self._nameless = torch.from_numpy(nameless).to(self._device)
        self._vocabulary = rows

    def _keep_rows(self, module, arguments, output):
        if self._rows_M is not None:
            output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[self._rows_M][None]
        return output

    @torch.inference_mode()
    def predict(
        self, input_ids: np.ndarray, lengths: np.ndarray, targets: np.ndarray, labels: np.ndarray, batch_tokens: int
    ) -> Predictions:
        """Predicts every target of N rows laid end to end (shapes as in `masking.Masked`).

        Batches are a function of the arguments alone: rows sorted by length, cut by
        padded tokens and by the size of the logits.

        Raises:
          UserError: the teacher gave a NaN or infinite log-probability.
        """
        starts = np.cumsum(lengths) - lengths
        first = np.searchsorted(targets, starts)
        counts = np.searchsorted(targets, starts + lengths) - first
        result = Predictions(
            np.empty(len(targets), np.float32),
            np.empty((len(targets), self._top_k), np.int32),
            np.empty((len(targets), self._top_k), np.float16),
        )
        max_targets = max(1, _LOGITS // self._vocabulary)
        for batch in batches_by_length(lengths, np.arange(len(lengths)), batch_tokens, counts, max_targets):
            ids_BL, inside_BL = pad(input_ids, starts[batch], lengths[batch], self._pad)
            index_M = ranges(first[batch], counts[batch])
            row_M = np.repeat(np.arange(len(batch)), counts[batch])
            column_M = targets[index_M] - np.repeat(starts[batch], counts[batch])
            label, ids, logprobs = self._forward(ids_BL, inside_BL, row_M * ids_BL.shape[1] + column_M, labels[index_M])
            if not (np.isfinite(label).all() and np.isfinite(logprobs).all()):
                raise UserError(
                    f"teacher {self._name!r} gave a NaN or infinite log-probability; try `dtype: float32` for it"
                )
            result.label_logprobs[index_M] = label
            result.topk_ids[index_M] = ids
            result.topk_logprobs[index_M] = logprobs
        return result

    def _forward(self, ids_BL, inside_BL, rows_M, labels_M) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._rows_M = torch.from_numpy(rows_M).to(self._device)
        logits_MV = self._model(
            input_ids=torch.from_numpy(ids_BL).to(self._device),
            attention_mask=torch.from_numpy(inside_BL.astype(np.int64)).to(self._device),
        ).logits[0]
        # Not logsumexp, which takes four times as long on a CPU.
        logprobs_MV = logits_MV.log_softmax(-1, dtype=torch.float32)
        labels_M = torch.from_numpy(labels_M.astype(np.int64)).to(self._device)
        label_M = logprobs_MV.gather(1, labels_M[:, None])[:, 0]
        if len(self._nameless):
            logprobs_MV[:, self._nameless] = -torch.inf
        top_MK, ids_MK = logprobs_MV.topk(self._top_k, dim=-1)
        # float16 keeps the order: rounding is monotone.
        return label_M.cpu().numpy(), ids_MK.int().cpu().numpy(), top_MK.half().cpu().numpy()


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one. UserError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
