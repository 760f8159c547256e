"""How well the student, and the teacher before it, predict held-out masked tokens."""

import numpy as np
import torch

from schemas.errors import UserError
from schemas.manifest import Predictions, open_predictions
from trainer.collate import Batch, Rows
from trainer.reader import read_row_group
from trainer.runtime import Runtime
from trainer.student import DistilledStudent

# Float32 logits at once: 2^25 are 128 MiB.
_LOGITS = 2**25


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

    Returns {language: {positions, accuracy, nll, teacher_accuracy, teacher_nll}}. The
    student's are over the merged vocabulary, the teacher's, taken from the rows, over
    its own; None where no teacher was run. Files are shared out over processes.
    """
    languages = heldout.language_names
    top_k = heldout.top_k
    sums = torch.zeros(len(languages), 5, dtype=torch.float64)
    student.eval()
    pad_id = heldout.vocabulary.id_of("pad")
    groups = [(file, group) for file in heldout.files for group in range(len(file.record.row_groups))]
    for file, group in groups[runtime.rank :: runtime.world_size]:
        table = read_row_group(file, group)
        rows = Rows(table, languages, top_k, pad_id)
        for index in rows.batches(batch_tokens, np.arange(len(table))):
            batch = rows.collate(index)
            right_M, nll_M = _predict(student, batch.to(runtime.device), runtime)
            parts = [torch.ones_like(nll_M), right_M, nll_M]
            if top_k:
                parts += [batch.topk_ids_MK[:, 0] == batch.labels_M, -batch.label_logprobs_M]
            columns_MS = torch.stack([part.double() for part in parts], 1)
            sums[:, : len(parts)].index_add_(0, batch.language_M, columns_MS)
    student.train()
    sums = runtime.all_reduce(sums)
    result = {}
    for language, (positions, right, nll, teacher_right, teacher_nll) in zip(languages, sums.tolist(), strict=True):
        result[language] = {
            "positions": int(positions),
            "accuracy": right / positions,
            "nll": nll / positions,
            "teacher_accuracy": teacher_right / positions if top_k else None,
            "teacher_nll": teacher_nll / positions if top_k else None,
        }
    return result


def _predict(student: DistilledStudent, batch: Batch, runtime: Runtime) -> tuple[torch.Tensor, torch.Tensor]:
    """(top-1 is the label, -log p(label)) a masked position, on the CPU."""
    projection = student.model.get_output_embeddings()
    with runtime.autocast():
        hidden_MH = student.hidden(batch)
        right, nll = [], []
        chunk = max(1, _LOGITS // projection.out_features)
        for start in range(0, len(hidden_MH), chunk):
            part = slice(start, start + chunk)
            logits_CV = torch.nn.functional.linear(hidden_MH[part], projection.weight, projection.bias).float()
            right.append(logits_CV.argmax(-1) == batch.labels_M[part])
            nll.append(torch.nn.functional.cross_entropy(logits_CV, batch.labels_M[part], reduction="none"))
    return torch.cat(right).cpu(), torch.cat(nll).cpu()


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
