"""Teacher inference: the top-k predictions at masked positions, and nothing else.

Legend: B batch, L padded length, M masked positions, K top-k, V the teacher's vocabulary.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from pipeline.config import TeacherConfig
from pipeline.teacher_tokenizer import TeacherTokenizer
from pipeline.top_k import log_normalizer, top_k
from schemas.errors import UserError, first_line
from schemas.ragged import batches_by_length, pad, ranges

# By device: padded tokens a batch, and logits held at once, [M, V].
_BATCH_TOKENS = {"cpu": 2048, "other": 16384}
_LOGITS = {"cpu": 2**26, "other": 2**29}


class NotFinite(Exception):
    """A NaN or infinite log-probability at the `target`-th target."""

    def __init__(self, target: int):
        super().__init__(target)
        self.target = target


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
    instead of all of it, so every architecture keeps its own head code. Whether that is
    the same as the full forward is tried out first; where it is not, the full forward
    is run.

    On a CPU `threads` batches are predicted at a time, each by one thread: what comes
    out then depends neither on the number of cores nor on how processes share them.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: TeacherTokenizer, config: TeacherConfig, top_k: int, threads: int = 1
    ):
        device = choose_device(config.device)
        self.dtype = choose_dtype(config.dtype, device)
        self._device = device
        self._kind = "cpu" if device.type == "cpu" else "other"
        self._model = model.to(device, self.dtype).eval()
        self._pad = tokenizer.roles["pad"]
        self._top_k = top_k
        self._threads = threads if device.type == "cpu" else 1
        # Rows of the head that no token of the tokenizer stands for (padding of the
        # vocabulary) count in the normaliser but are never among the top-k.
        rows = self._model.get_input_embeddings().num_embeddings
        tokens = np.fromiter(tokenizer.tokens, np.int64)
        self._nameless = torch.from_numpy(np.setdiff1d(np.arange(rows), tokens)).to(device)
        self._vocabulary = rows
        # What the hook keeps is each thread's own, set only while it predicts. The hook must not refer to this
        # object, which refers to the model: in a cycle both would outlive their last user.
        self._wanted = threading.local()
        self._hook = self._model.base_model.register_forward_hook(partial(_keep_rows, self._wanted))
        if fault := self._fault_of_hook(np.sort(tokens)):
            self._hook.remove()
            self._hook = None
            logging.getLogger(__name__).warning(
                "teacher %r (%s): its head is run at every position, which is slower, since masked positions alone %s",
                tokenizer.name,
                type(model).__name__,
                fault,
            )

    @torch.inference_mode()
    def _fault_of_hook(self, tokens: np.ndarray) -> str:
        """Compares with the full forward on a small padded batch; empty where both agree."""
        lengths = np.array([5, 8])
        ids = tokens[np.linspace(0, len(tokens) - 1, lengths.sum()).astype(np.int64)]
        ids_BL, inside_BL = pad(ids, lengths, self._pad)
        rows_M = np.array([1, 3, 8, 11, 14])
        with _one_thread(self._device):
            full_MV = self._full_logits(ids_BL, inside_BL, rows_M).float()
            try:
                found_MV = self._logits(ids_BL, inside_BL, rows_M).float()
            except Exception as error:  # Whatever an unknown architecture makes of it.
                return f"failed ({type(error).__name__}: {first_line(error)})"
        if found_MV.shape != full_MV.shape:
            return f"gave {tuple(found_MV.shape)} logits"
        # Rounding alone, which on a GPU depends on the shape; a wrong row differs by the logits' own size.
        tolerance = 0.02 * full_MV.abs().max() if self.dtype != torch.float32 else 1e-3 * full_MV.abs().max()
        difference = (found_MV - full_MV).abs().max()
        return (
            "" if difference <= tolerance or full_MV.isnan().any() else f"gave logits that differ by {difference:.3g}"
        )

    def predict(
        self,
        input_ids: np.ndarray,
        lengths: np.ndarray,
        targets: np.ndarray,
        labels: np.ndarray,
        batch_tokens: int | None = None,
        progress: Callable[[int], None] = lambda tokens: None,
    ) -> Predictions:
        """Predicts every target of N rows laid end to end (shapes as in `masking.Masked`).

        Batches are a function of the arguments and the kind of device alone: rows sorted
        by length, cut by padded tokens and by the size of the logits. `progress` is
        called with each batch's tokens.

        Raises:
          NotFinite: the teacher gave a NaN or infinite log-probability.
        """
        starts = np.cumsum(lengths) - lengths
        first = np.searchsorted(targets, starts)
        counts = np.searchsorted(targets, starts + lengths) - first
        result = Predictions(
            np.empty(len(targets), np.float32),
            np.empty((len(targets), self._top_k), np.int32),
            np.empty((len(targets), self._top_k), np.float16),
        )

        def run(batch: np.ndarray) -> int:
            ids_BL, inside_BL = pad(input_ids[ranges(starts[batch], lengths[batch])], lengths[batch], self._pad)
            index_M = ranges(first[batch], counts[batch])
            row_M = np.repeat(np.arange(len(batch)), counts[batch])
            column_M = targets[index_M] - np.repeat(starts[batch], counts[batch])
            label, ids, logprobs = self._forward(ids_BL, inside_BL, row_M * ids_BL.shape[1] + column_M, labels[index_M])
            finite = np.isfinite(label) & np.isfinite(logprobs).all(1)
            if not finite.all():
                raise NotFinite(int(index_M[~finite][0]))
            result.label_logprobs[index_M] = label
            result.topk_ids[index_M] = ids
            result.topk_logprobs[index_M] = logprobs
            return int(lengths[batch].sum())

        batches = self._batches(lengths, counts, batch_tokens)
        # The longest first, so that no thread is left with much at the end.
        with _one_thread(self._device), ThreadPoolExecutor(self._threads) as pool:
            try:
                for tokens in pool.map(run, reversed(batches)):
                    progress(tokens)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return result

    def _batches(self, lengths: np.ndarray, counts: np.ndarray, batch_tokens: int | None) -> list[np.ndarray]:
        limit = _LOGITS[self._kind] // self._vocabulary
        batch_tokens = batch_tokens or _BATCH_TOKENS[self._kind]
        if self._hook is None:
            batch_tokens = min(batch_tokens, limit)
        return batches_by_length(lengths, np.arange(len(lengths)), batch_tokens, counts, max(1, limit))

    @torch.inference_mode()
    def _forward(self, ids_BL, inside_BL, rows_M, labels_M) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits_MV = (self._logits if self._hook else self._full_logits)(ids_BL, inside_BL, rows_M)
        normalizer_M = log_normalizer(logits_MV)
        labels_M = torch.from_numpy(labels_M.astype(np.int64)).to(self._device)
        label_M = logits_MV.gather(1, labels_M[:, None])[:, 0].float() - normalizer_M
        if len(self._nameless):
            logits_MV[:, self._nameless] = -torch.inf
        top_MK, ids_MK = top_k(logits_MV, self._top_k)
        logprobs_MK = top_MK.float() - normalizer_M[:, None]
        # float16 keeps the order: rounding is monotone.
        return label_M.cpu().numpy(), ids_MK.int().cpu().numpy(), logprobs_MK.half().cpu().numpy()

    @torch.inference_mode()
    def log_distributions(self, input_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """float32 [M, V]: all log-probabilities at `positions` of one sequence, predicted by itself, unpadded."""
        inside_BL = np.ones((1, len(input_ids)), bool)
        with _one_thread(self._device):
            logits_MV = (self._logits if self._hook else self._full_logits)(
                input_ids[None].astype(np.int64), inside_BL, positions.astype(np.int64)
            )
            return logits_MV.float().log_softmax(-1).cpu().numpy()

    @torch.inference_mode()
    def flops(self, token_ids: np.ndarray, lengths: np.ndarray, masked: int) -> int:
        """Floating-point operations that the rows take, of whose positions `masked` are masked.

        Counted on a single row, of mean length, and scaled by tokens and positions.
        """
        length = max(1, round(lengths.mean()))
        row_BL, inside_BL = token_ids[None, :length].astype(np.int64), np.ones((1, length), bool)
        counts = []
        for heads in (0, 1):
            with FlopCounterMode(display=False) as counter:
                self._logits(row_BL, inside_BL, np.zeros(heads, np.int64))
            counts.append(counter.get_total_flops())
        encoder, head = counts[0], counts[1] - counts[0]
        return round(encoder * lengths.sum() / length + head * masked)

    def _logits(self, ids_BL: np.ndarray, inside_BL: np.ndarray, rows_M: np.ndarray) -> torch.Tensor:
        """[M, V] logits at `rows_M`, indices into the flattened batch, by the head at those rows only."""
        self._wanted.rows_M = torch.from_numpy(rows_M).to(self._device)
        try:
            return self._run(ids_BL, inside_BL)[0]
        finally:
            self._wanted.rows_M = None

    def _full_logits(self, ids_BL: np.ndarray, inside_BL: np.ndarray, rows_M: np.ndarray) -> torch.Tensor:
        """The same by the head at all positions."""
        return self._run(ids_BL, inside_BL).flatten(0, 1)[torch.from_numpy(rows_M).to(self._device)]

    def _run(self, ids_BL: np.ndarray, inside_BL: np.ndarray) -> torch.Tensor:
        return self._model(
            input_ids=torch.from_numpy(ids_BL).to(self._device),
            attention_mask=torch.from_numpy(inside_BL.astype(np.int64)).to(self._device),
        ).logits


def _keep_rows(wanted: threading.local, module, arguments, output):
    rows_M = getattr(wanted, "rows_M", None)
    if rows_M is not None:
        output.last_hidden_state = output.last_hidden_state.flatten(0, 1)[rows_M][None]
    return output


# Of the whole process, as the number of threads is: also of two teachers one predicts at a time.
_PREDICTING = threading.Lock()


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Each operation on a CPU by one thread: sums of several threads' parts depend on how many there are."""
    with _PREDICTING:
        before = torch.get_num_threads()
        if device.type == "cpu":
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def choose_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one. UserError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the device itself computes in it, else float32."""
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bfloat16 = device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.bfloat16 if has_bfloat16 else torch.float32
