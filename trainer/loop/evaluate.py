"""How well the student, and the teacher before it, predict held-out masked tokens."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch.distributed.fsdp import FSDPModule

from schemas.errors import UserError
from schemas.manifest import Predictions, open_predictions
from schemas.row_groups import read_row_groups
from trainer.data.batches import Batch, Columns, Piece, columns_read, make_batches
from trainer.distributed import Runtime
from trainer.student.model import DistilledStudent


def open_heldout(folders: list[str], training: Predictions) -> Predictions:
    """Opens held-out predictions; UserError where their ids are not those of the training vocabulary."""
    heldout = open_predictions(*folders)
    if not training.vocabulary.extends(heldout.vocabulary):
        raise UserError(
            f"heldout: {heldout.newest} is over the vocabulary {heldout.vocabulary.sha256}, the predictions over "
            f"{training.vocabulary.sha256}; run the pipeline on the held-out text with the same teachers"
        )
    return heldout


@torch.no_grad()
def evaluate(student: DistilledStudent, heldout: Predictions, batch_tokens: int, runtime: Runtime) -> dict[str, dict]:
    """Per language: masked-token accuracy and mean negative log-likelihood (nats).

    Returns {language: {positions, accuracy, nll, teacher_accuracy, teacher_nll, kl}}. The
    student's are over the merged vocabulary, the teacher's, taken from the rows, over
    its own; kl is from the teacher to the student (`trainer.loss.sparse.Losses`). None where no
    teacher was run. Processes take turns at the batches, and all get the result.
    """
    languages = heldout.language_names
    top_k = heldout.top_k
    sums = torch.zeros(len(languages), 6, dtype=torch.float64)
    student.eval()
    batches = _batches(heldout, languages, batch_tokens)
    while step := list(islice(batches, runtime.world_size)):
        # A sharded student runs in all processes or in none: at the end some repeat the last batch, uncounted.
        batch = step[min(runtime.rank, len(step) - 1)].to(runtime.device)
        with runtime.autocast():
            losses = student(batch, torch.zeros(len(batch.labels_M), device=runtime.device))
        if runtime.rank >= len(step):
            continue
        parts = [torch.ones_like(losses.mlm_M), losses.right_M, losses.mlm_M]
        if top_k:
            parts += [batch.topk_ids_MK[:, 0] == batch.labels_M, -batch.label_logprobs_M, losses.kl_M]
        columns_MS = torch.stack([part.double().cpu() for part in parts], 1)
        sums[:, : len(parts)].index_add_(0, batch.language_M.cpu(), columns_MS)
    if isinstance(student, FSDPModule):
        # As a backward pass would: what is saved and optimized are the parts.
        student.reshard()
    student.train()
    sums = runtime.all_reduce(sums)
    result = {}
    for language, (positions, right, nll, teacher_right, teacher_nll, kl) in zip(languages, sums.tolist(), strict=True):
        result[language] = {
            "positions": int(positions),
            "accuracy": right / positions,
            "nll": nll / positions,
            "teacher_accuracy": teacher_right / positions if top_k else None,
            "teacher_nll": teacher_nll / positions if top_k else None,
            "kl": kl / positions if top_k else None,
        }
    return result


def _batches(heldout: Predictions, languages: list[str], batch_tokens: int) -> Iterator[Batch]:
    pad_id = heldout.vocabulary.id_of("pad")
    for file in heldout.files:
        for group, rows in enumerate(read_row_groups(file, columns_read(heldout.top_k))):
            columns = Columns.of(rows, heldout.top_k)
            piece = Piece(columns, slice(0, len(columns)), languages.index(file.record.language), 0, file, group)
            yield from make_batches([piece], batch_tokens, pad_id)


def format_evaluation(result: dict[str, dict]) -> str:
    """The result as an aligned table."""
    lines = [f"{'':12}{'accuracy':>10}{'NLL':>8}{'teacher':>10}{'NLL':>8}{'positions':>11}"]
    for language, row in result.items():
        teacher = (
            f"{row['teacher_accuracy']:10.3f}{row['teacher_nll']:8.3f}"
            if row["teacher_nll"] is not None
            else f"{'-':>10}{'-':>8}"
        )
        lines.append(f"{language:12}{row['accuracy']:10.3f}{row['nll']:8.3f}{teacher}{row['positions']:11,}")
    return "\n".join(lines)
