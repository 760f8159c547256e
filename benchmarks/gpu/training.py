"""Steps of a student: ours, plain transformers, and with the fused losses of Liger and cut-cross-entropy."""

import tempfile
from collections.abc import Callable
from functools import cache, partial

import torch
from torch.nn import functional

from benchmarks.made_up import make_predictions
from schemas.predictions import open_predictions
from trainer.config import SamplingConfig, StudentConfig
from trainer.data.batches import Batch
from trainer.data.reader import Reader
from trainer.student.model import DistilledStudent, build_student, student_config

_LAMBDA = 0.5
Loss = Callable[[DistilledStudent, Batch], torch.Tensor]


def ways(
    vocabulary: int, shape: dict[str, int], batch_tokens: int, device: torch.device
) -> tuple[dict[str, Callable[[], object]], int]:
    """Returns (the ways to take a step, tokens of a step): the same batch, forward, backward and AdamW.

    "ours, compiled" uses `torch_compile` and must be the last. "encoder alone" has no vocabulary at all: the extra cost of
    the other ways is the loss. Liger and cut-cross-entropy compute the loss of the gold labels only.
    """
    with tempfile.TemporaryDirectory() as folder:
        make_predictions(folder, vocabulary, max(256, batch_tokens // 4), 1)
        predictions = open_predictions(folder)
        batch = next(iter(Reader(predictions, SamplingConfig(), batch_tokens, 0)))[0].to(device)
        settings = StudentConfig(settings={"model_type": "bert", **shape})
        config = student_config(settings, predictions.vocabulary, predictions.max_length)
    student = DistilledStudent(build_student(config, 0)).to(device)
    optimizer = torch.optim.AdamW(student.parameters(), fused=True)
    compile_once = cache(student.compile_kernels)

    def step(loss: Loss) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            total = loss(student, batch)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    losses = {"encoder alone": _nothing, "plain transformers": _dense, "Liger": _liger, "cut-cross-entropy": _cut}
    steps = {name: partial(step, loss) for name, loss in {**losses, "ours": _ours}.items()}

    def compiled() -> None:
        compile_once()
        step(_ours)

    return steps | {"ours, compiled": compiled}, batch.tokens


def _hidden(student: DistilledStudent, batch: Batch) -> torch.Tensor:
    is_padded = batch.tokens < batch.input_ids_BL.numel()
    return student.hidden(batch.input_ids_BL, batch.attention_mask_BL if is_padded else None, batch.rows_M)


def _nothing(student: DistilledStudent, batch: Batch) -> torch.Tensor:
    return _hidden(student, batch).float().square().mean()


def _ours(student: DistilledStudent, batch: Batch) -> torch.Tensor:
    lambda_M = torch.full_like(batch.labels_M, _LAMBDA, dtype=torch.float32)
    return student(batch, lambda_M).total / len(lambda_M)


def _dense(student: DistilledStudent, batch: Batch) -> torch.Tensor:
    head = student.model.get_output_embeddings()
    student_MV = functional.linear(_hidden(student, batch), head.weight, head.bias).float().log_softmax(-1)
    mlm = functional.nll_loss(student_MV, batch.labels_M.long())
    top_MK, teacher_MK = student_MV.gather(1, batch.topk_ids_MK.long()), batch.topk_logprobs_MK.float()
    rest_M = torch.log1p(-teacher_MK.exp().sum(-1).clamp(max=1 - 1e-6))
    student_rest_M = torch.log1p(-top_MK.exp().sum(-1).clamp(max=1 - 1e-6))
    kd_M = (teacher_MK.exp() * (teacher_MK - top_MK)).sum(-1) + rest_M.exp() * (rest_M - student_rest_M)
    return _LAMBDA * kd_M.mean() + (1 - _LAMBDA) * mlm


def _liger(student: DistilledStudent, batch: Batch) -> torch.Tensor:
    from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

    head = student.model.get_output_embeddings()
    return LigerFusedLinearCrossEntropyLoss()(head.weight, _hidden(student, batch), batch.labels_M.long(), head.bias)


def _cut(student: DistilledStudent, batch: Batch) -> torch.Tensor:
    from cut_cross_entropy import linear_cross_entropy

    hidden_MH = _hidden(student, batch)
    weight_VH = student.model.get_output_embeddings().weight.to(hidden_MH.dtype)
    way = "cce" if hidden_MH.device.type == "cuda" else "torch_compile"
    return linear_cross_entropy(hidden_MH, weight_VH, batch.labels_M.long(), impl=way)
