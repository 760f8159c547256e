"""Teacher inference: computes only the top-k predictions and tail samples at masked positions.

Legend: B batch, L padded length, M masked positions, K top-k, S tail samples, V the teacher's vocabulary.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from pipeline.config import TeacherConfig
from pipeline.teachers.forward import Forward
from pipeline.teachers.mixture import Mixture
from pipeline.teachers.model import longest_exact_sequence
from pipeline.teachers.tail import sample_tail
from pipeline.teachers.tokenizer import TeacherTokenizer
from pipeline.teachers.top_k import TopK
from schemas.compilers import check_compiler
from schemas.errors import UserError, first_line
from schemas.precision import TEACHER_INSTRUCTIONS
from schemas.ragged import batches_by_length, pad, ranges

# By device: padded tokens per batch, and logits held at once, [M, V].
_BATCH_TOKENS = {"cpu": 2048, "other": 16384}
_LOGITS = {"cpu": 2**26, "other": 2**29}
# Batches launched on a GPU beyond the one whose results the host waits for.
_AHEAD = 2
Batch = TypeVar("Batch")


class NotFinite(Exception):
    """A NaN or infinite log-probability at target `target`."""

    def __init__(self, target: int):
        super().__init__(target)
        self.target = target


# Waits for the predictions of a batch.
Fetch = Callable[[], "Predictions"]


def _no_uniforms(index_M: np.ndarray) -> np.ndarray:
    return np.empty((len(index_M), 0))


@dataclass(frozen=True)
class Predictions:
    """A teacher's predictions at M positions, in the teacher's token ids.

    Attributes:
      label_logprobs: float32 [M], in nats, over the teacher's whole vocabulary at temperature 1.
      topk_ids: int32 [M, K], most probable first.
      topk_logprobs: float16 [M, K], descending.
      tail_ids: int32 [M, S], drawn from the tokens outside the top-k.
    """

    label_logprobs: np.ndarray
    topk_ids: np.ndarray
    topk_logprobs: np.ndarray
    tail_ids: np.ndarray


class Predictor:
    """A teacher ready to predict with `pipeline.teachers.forward`.

    On a CPU, `threads` batches are predicted at a time, each by one thread, so that the
    result depends neither on the number of cores nor on how processes share them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TeacherTokenizer,
        config: TeacherConfig,
        top_k: int,
        threads: int = 1,
        max_length: int = 128,
        mixed_with: Sequence[PreTrainedModel] = (),
    ):
        """`mixed_with` are the models of `config.mixed_with`."""
        device = usable_device(tokenizer.name, config)
        self.dtype = choose_dtype(config.dtype, device)
        self._device = device
        self._device_kind = "cpu" if device.type == "cpu" else "other"
        self._top_k = top_k
        self._pad = tokenizer.pad_id
        # Typed as Modules, because a decorator hides the type of PreTrainedModel.to.
        modules: list[torch.nn.Module] = [model, *mixed_with]
        for module in modules:
            module.to(device)
        # Tried in float32, where rounding does not hide differences, and then run as configured.
        forwards = [try_forward(part.eval(), tokenizer, device, max_length) for part in (model, *mixed_with)]
        self._forward = Mixture(forwards, config.weights, device) if mixed_with else forwards[0]
        self._threads = threads if device.type == "cpu" and self._forward.concurrent else 1
        self._warn(f"teacher {tokenizer.name!r} ({type(model).__name__})")
        for module in modules:
            module.to(self.dtype)
        try:
            self.log_distributions(tokenizer.ordinary_ids[:4], np.arange(1))
        except Exception as error:  # Not every operation exists in every precision, for example Fourier transforms.
            name = str(self.dtype).removeprefix("torch.")
            raise UserError(
                f"teacher {tokenizer.name!r} ({type(model).__name__}): it does not run in {name} on {device.type} "
                f"({first_line(error)}); set `dtype: float32` for it"
            ) from None
        # Columns without a token (padding of the vocabulary) count in the normaliser but are never among the top-k, nor
        # drawn from the tail. So their mass, which is tiny in a trained model, is part of the tail's, and the samples
        # distribute it over the tail's tokens in proportion to their probabilities.
        tokens = np.fromiter(tokenizer.tokens, np.int64)
        nameless = torch.from_numpy(np.setdiff1d(np.arange(self._forward.vocabulary), tokens)).to(device)
        self._most_probable = TopK(top_k, nameless, config.torch_compile)

    def _warn(self, where: str) -> None:
        """Warns if the model cannot be run in the cheapest way."""
        log = logging.getLogger(__name__)
        if fault := self._forward.head_everywhere:
            log.warning(
                "%s: runs its head at every position, which is slower: at masked positions only, it %s", where, fault
            )
        if moved := self._forward.padding_reaches:
            log.warning(
                "%s: batches have only rows of equal length, which is slower, because padding changes its logits by %.3g",
                where,
                moved,
            )

    def predict(
        self,
        input_ids: np.ndarray,
        lengths: np.ndarray,
        targets: np.ndarray,
        labels: np.ndarray,
        batch_tokens: int | None = None,
        progress: Callable[[int], None] = lambda tokens: None,
        tail_samples: int = 0,
        tail_uniforms: Callable[[np.ndarray], np.ndarray] = _no_uniforms,
    ) -> Predictions:
        """Predicts every target of N concatenated rows (shapes as in `pipeline.shard.masking.Masked`).

        Batches depend only on the arguments and the kind of device: rows are sorted by
        length and cut by padded tokens and by the size of the logits. `progress` is
        called with the number of tokens in each batch.

        Args:
          tail_samples: S.
          tail_uniforms: maps int64 indices of targets to the random numbers of their tail samples: float64 [M, S] in
            [0, 1). Called once per batch, because those of all targets would take much memory.

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
            np.empty((len(targets), tail_samples), np.int32),
        )

        def launch(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, Fetch]:
            ids_BL, attention_mask_BL = pad(input_ids[ranges(starts[batch], lengths[batch])], lengths[batch], self._pad)
            index_M = ranges(first[batch], counts[batch])
            row_M = np.repeat(np.arange(len(batch)), counts[batch])
            column_M = targets[index_M] - np.repeat(starts[batch], counts[batch])
            fetch = self._predict_batch(
                ids_BL,
                attention_mask_BL,
                row_M * ids_BL.shape[1] + column_M,
                labels[index_M],
                tail_uniforms(index_M),
            )
            return batch, index_M, fetch

        def collect(batch: np.ndarray, index_M: np.ndarray, fetch: Fetch) -> int:
            of_batch = fetch()
            finite = np.isfinite(of_batch.label_logprobs) & np.isfinite(of_batch.topk_logprobs).all(1)
            if not finite.all():
                raise NotFinite(int(index_M[~finite][0]))
            for field in fields(Predictions):
                getattr(result, field.name)[index_M] = getattr(of_batch, field.name)
            return int(lengths[batch].sum())

        batches = self._batches(lengths, counts, batch_tokens)
        # Longest batches first, so that no thread has much left at the end.
        in_order = list(reversed(batches))
        with _one_thread(self._device), ThreadPoolExecutor(self._threads) as pool:
            try:
                if self._device_kind == "cpu":
                    done = pool.map(lambda batch: collect(*launch(batch)), in_order)
                else:
                    done = _pipelined(launch, collect, in_order)
                for tokens in done:
                    progress(tokens)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return result

    def _batches(self, lengths: np.ndarray, counts: np.ndarray, batch_tokens: int | None) -> list[np.ndarray]:
        limit = max(1, _LOGITS[self._device_kind] // self._forward.vocabulary)
        batch_tokens = batch_tokens or _BATCH_TOKENS[self._device_kind]
        if self._forward.head_everywhere:
            batch_tokens = min(batch_tokens, limit)
        groups = [np.arange(len(lengths))]
        if self._forward.padding_reaches:
            groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        return [
            group[batch]
            for group in groups
            for batch in batches_by_length(lengths[group], np.arange(len(group)), batch_tokens, counts[group], limit)
        ]

    @torch.inference_mode()
    def _predict_batch(self, ids_BL, attention_mask_BL, rows_M, labels_M, uniforms_MS) -> Fetch:
        logits_MV = self._forward.logits(ids_BL, attention_mask_BL, rows_M)
        labels_M = torch.from_numpy(labels_M.astype(np.int64)).to(self._device)
        label_M = logits_MV.gather(1, labels_M[:, None])[:, 0].float()
        normalizer_M, top_MK, ids_MK = self._most_probable(logits_MV)
        label_M -= normalizer_M
        logprobs_MK = top_MK.float() - normalizer_M[:, None]
        tail_ids_MS = ids_MK[:, :0]
        if uniforms_MS.shape[1]:
            tail_ids_MS = sample_tail(logits_MV, ids_MK, torch.from_numpy(uniforms_MS).to(self._device))
        # float16 keeps the order: rounding is monotone.
        return _start_copy([label_M, ids_MK.int(), logprobs_MK.half(), tail_ids_MS.int()])

    @torch.inference_mode()
    def log_distributions(self, input_ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Returns float32 [M, V]: all log-probabilities at `positions` of one sequence, predicted alone, unpadded."""
        attention_mask_BL = np.ones((1, len(input_ids)), bool)
        with _one_thread(self._device):
            logits_MV = self._forward.logits(input_ids[None], attention_mask_BL, positions.astype(np.int64))
            return logits_MV.float().log_softmax(-1).cpu().numpy()

    @torch.inference_mode()
    def flops(self, token_ids: np.ndarray, lengths: np.ndarray, masked: int) -> int:
        """Returns the floating-point operations of rows with `masked` masked positions in total.

        Counts them on a single row of mean length, and scales by tokens and masked positions.
        """
        length = max(1, round(lengths.mean()))
        row_BL, attention_mask_BL = token_ids[None, :length].astype(np.int64), np.ones((1, length), bool)
        counts = []
        for heads in (0, 1):
            with FlopCounterMode(display=False) as counter:
                self._forward.logits(row_BL, attention_mask_BL, np.zeros(heads, np.int64))
            counts.append(counter.get_total_flops())
        encoder, head = counts[0], counts[1] - counts[0]
        return round(encoder * lengths.sum() / length + head * masked)


def _start_copy(results: list[torch.Tensor]) -> Fetch:
    """Starts to copy the fields of `Predictions` to the host while the device continues."""
    if results[0].device.type != "cuda":
        return lambda: Predictions(*(part.cpu().numpy() for part in results))
    copies = [
        torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(part, non_blocking=True) for part in results
    ]
    is_copied = torch.cuda.Event()
    is_copied.record(torch.cuda.current_stream(results[0].device))

    def fetch() -> Predictions:
        is_copied.synchronize()
        return Predictions(*(copy.numpy() for copy in copies))

    return fetch


def _pipelined(
    launch: Callable[[Batch], tuple], collect: Callable[..., int], batches: Sequence[Batch]
) -> Iterator[int]:
    """Yields `collect`'s result for each batch, in order. Launches the next ones first, so the device never waits."""
    launched: deque[tuple] = deque()
    for batch in batches:
        launched.append(launch(batch))
        if len(launched) > _AHEAD:
            yield collect(*launched.popleft())
    while launched:
        yield collect(*launched.popleft())


def try_forward(model: PreTrainedModel, tokenizer: TeacherTokenizer, device: torch.device, max_length: int) -> Forward:
    """Makes and tries a forward pass for rows of up to `max_length` tokens. Raises UserError like `Forward.try_out`."""
    forward = Forward(model, device, tokenizer.pad_id)
    with _one_thread(device):
        where = f"teacher {tokenizer.name!r} ({type(model).__name__})"
        forward.try_out(where, tokenizer.ordinary_ids, min(max_length, longest_exact_sequence(model.config)))
    return forward


# torch's number of threads belongs to the process, so this lock does too: only one teacher predicts at a time.
_PREDICTING = threading.Lock()


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Runs each CPU operation in one thread, because a sum over threads depends on their number."""
    with _PREDICTING:
        before = torch.get_num_threads()
        if device.type == "cpu":
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def usable_device(name: str, config: TeacherConfig) -> torch.device:
    """Returns a teacher's device; `auto` is the GPU if there is one.

    Raises UserError if this process cannot use it, or lacks the compiler that `torch_compile` needs.
    """
    device = named_device(name, config)
    try:
        # Read back, because the device `meta` has no values.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"teachers.{name}.device: {config.device!r} cannot be used: {first_line(error)}") from None
    if config.torch_compile:
        check_compiler(device.type)
    return device


def named_device(name: str, config: TeacherConfig) -> torch.device:
    """Returns a teacher's device like `usable_device`, but only raises UserError if torch knows no such device."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(config.device)
    except RuntimeError as error:
        raise UserError(f"teachers.{name}.device: {config.device!r} is no device: {first_line(error)}") from None


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Returns the dtype; `schemas.precision` defines `auto`."""
    if dtype != "auto":
        return getattr(torch, dtype)
    has_bfloat16 = False
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        has_bfloat16 = any(torch.cpu.get_capabilities().get(name, False) for name in TEACHER_INSTRUCTIONS)
    return torch.bfloat16 if has_bfloat16 else torch.float32
