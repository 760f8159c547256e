"""A teacher's predictions: ours, plain transformers, and the model alone."""

import tempfile
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from pipeline.config import TeacherConfig
from pipeline.teachers.predictor import Predictor
from pipeline.teachers.tokenizer import load_tokenizer
from schemas.ragged import batches_by_length, pad, ranges

TOP_K, MAX_LENGTH, MASKED = 8, 128, 0.15
# Rows per batch of plain transformers.
_PLAIN_ROWS = 256


class Text:
    """N rows of random tokens, concatenated, with a share of them masked.

    Attributes:
      input_ids: int64. lengths: of the N rows. targets: the masked positions in `input_ids`. labels: of the targets.
    """

    def __init__(self, tokens: int, vocabulary: int):
        random = np.random.default_rng(0)
        lengths = np.clip(random.lognormal(3.7, 0.5, tokens // 8).astype(int), 8, MAX_LENGTH)
        self.lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), tokens)) + 1]
        self.input_ids = random.integers(5, vocabulary, self.lengths.sum())
        self.targets = np.flatnonzero(random.random(len(self.input_ids)) < MASKED)
        self.labels = self.input_ids[self.targets]

    def batches(self, groups: list[np.ndarray], device: torch.device) -> list[tuple[torch.Tensor, ...]]:
        """Returns (ids [B, L], mask [B, L], masked positions in [B * L]) of groups of rows, on the device."""
        starts = np.cumsum(self.lengths) - self.lengths
        is_target = np.zeros(len(self.input_ids), bool)
        is_target[self.targets] = True
        made = []
        for rows in groups:
            lengths = self.lengths[rows]
            at = ranges(starts[rows], lengths)
            ids_BL, mask_BL = pad(self.input_ids[at], lengths, 0)
            target_BL, _ = pad(is_target[at].astype(np.int64), lengths, 0)
            parts = (ids_BL.astype(np.int64), mask_BL, np.flatnonzero(target_BL))
            made.append(tuple(torch.from_numpy(part).to(device) for part in parts))
        return made


def ways(text: Text, shape: dict[str, int], device: torch.device) -> dict[str, Callable[[], object]]:
    """Returns the ways to predict all of `text` with a BERT of random weights."""
    vocabulary = shape["vocab_size"]
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**shape, max_position_embeddings=512)).eval()
    same = deepcopy(model)
    with tempfile.TemporaryDirectory() as folder:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(vocabulary - 5))]
        BertTokenizer({word: number for number, word in enumerate(words)}).save_pretrained(Path(folder, "teacher"))
        config = TeacherConfig(model=str(Path(folder, "teacher")), languages=["en"], dtype="bfloat16")
        tokenizer = load_tokenizer("teacher", config)
    predictor = Predictor(model, tokenizer, config, TOP_K, max_length=MAX_LENGTH)
    with_compiled_pass = config.model_copy(update={"torch_compile": True})
    compiled = Predictor(same, tokenizer, with_compiled_pass, TOP_K, max_length=MAX_LENGTH)
    rows = np.arange(len(text.lengths))
    counts = np.bincount(np.searchsorted(np.cumsum(text.lengths), text.targets, "right"), minlength=len(rows))
    batch_tokens = 16384 if device.type == "cuda" else 2048
    sorted_batches = text.batches(batches_by_length(text.lengths, rows, batch_tokens, counts, 2**30), device)
    plain_batches = text.batches(np.array_split(rows, -(-len(rows) // _PLAIN_ROWS)), torch.device("cpu"))

    def ours(by: Predictor) -> object:
        return by.predict(text.input_ids, text.lengths, text.targets, text.labels)

    @torch.inference_mode()
    def bare() -> None:
        for ids_BL, mask_BL, rows_M in sorted_batches:
            hidden_BLH = model.base_model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
            model.cls(hidden_BLH.flatten(0, 1)[rows_M])

    @torch.inference_mode()
    def plain() -> None:
        for ids_BL, mask_BL, _ in plain_batches:
            logits_BLV = model(input_ids=ids_BL.to(device), attention_mask=mask_BL.to(device)).logits
            top = logits_BLV.log_softmax(-1).topk(TOP_K)
            top.values.float().cpu(), top.indices.cpu()

    return {
        "plain transformers": plain,
        "bare model": bare,
        "ours": partial(ours, predictor),
        "ours, compiled": partial(ours, compiled),
    }
