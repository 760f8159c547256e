"""Measures how well the student and its teachers predict held-out masked tokens."""

from collections.abc import Iterator

import torch
from torch.distributed.fsdp import FSDPModule

from schemas.errors import UserError
from schemas.predictions import Predictions, open_predictions
from schemas.row_groups import RowGroupReader
from schemas.tables import format_table
from trainer.artifacts.scores import LanguageScores
from trainer.data.batches import Batch, Columns, Piece, columns_read, make_batches
from trainer.distributed import Runtime
from trainer.student.model import DistilledStudent

# Alignment of the columns in the table of scores.


def open_heldout(folders: list[str], training: Predictions) -> Predictions:
    """Opens held-out predictions. Raises UserError if their ids are not those of the training vocabulary."""
    heldout = open_predictions(*folders)
    if not training.vocabulary.extends(heldout.vocabulary):
        raise UserError(
            f"heldout: {heldout.newest} has the vocabulary {heldout.vocabulary.sha256}, but the predictions have "
            f"{training.vocabulary.sha256}; run the pipeline on the held-out text with the same teachers"
        )
    return heldout


@torch.no_grad()
def evaluate(
    student: DistilledStudent, heldout: Predictions, batch_tokens: int, runtime: Runtime
) -> dict[str, LanguageScores]:
    """Returns the scores of each language. The teacher's are computed from the rows.

    The processes divide the row groups among them, and all of them get the result.
    """
    languages = heldout.language_names
    top_k = heldout.top_k
    sums = torch.zeros(len(languages), 6, dtype=torch.float64)
    student.eval()
    for batch, is_counted in _in_step(heldout, languages, batch_tokens, runtime):
        batch = batch.to(runtime.device)
        with runtime.autocast():
            losses = student(batch, torch.zeros(len(batch.labels_M), device=runtime.device))
        if not is_counted:
            continue
        parts = [torch.ones_like(losses.mlm_M), losses.correct_M, losses.mlm_M]
        if top_k:
            parts += [batch.topk_ids_MK[:, 0] == batch.labels_M, -batch.label_logprobs_M, losses.kl_M]
        columns_MS = torch.stack([part.double().cpu() for part in parts], 1)
        sums[:, : len(parts)].index_add_(0, batch.language_M.cpu(), columns_MS)
    if isinstance(student, FSDPModule):
        # Like a backward pass: checkpoints and the optimizer need each process's shard.
        student.reshard()
    student.train()
    sums = runtime.all_reduce(sums)
    scores = {}
    for language, (positions, *of_language) in zip(languages, sums.tolist(), strict=True):
        accuracy, nll, *of_teacher = (figure / positions for figure in of_language)
        teacher_accuracy, teacher_nll, kl = of_teacher if top_k else [None] * 3
        scores[language] = LanguageScores(int(positions), accuracy, nll, teacher_accuracy, teacher_nll, kl)
    return scores


def _in_step(
    heldout: Predictions, languages: list[str], batch_tokens: int, runtime: Runtime
) -> Iterator[tuple[Batch, bool]]:
    """Yields the same number of batches in every process, each with whether it counts; repeated ones do not.

    A process without further batches repeats its last one, because with FSDP the student must run in all processes or
    in none.
    """
    batches = _batches(heldout, languages, batch_tokens, runtime.rank, runtime.world_size)
    # Still None if this process has no row group at all.
    batch = None
    while True:
        following = next(batches, None)
        if not runtime.all_reduce(torch.tensor(following is not None, dtype=torch.int64)):
            return
        batch = following or batch or next(_batches(heldout, languages, batch_tokens, 0, 1))
        yield batch, following is not None


def _batches(
    heldout: Predictions, languages: list[str], batch_tokens: int, rank: int, world_size: int
) -> Iterator[Batch]:
    """Yields the batches of every `world_size`-th row group, beginning with number `rank`."""
    pad_id = heldout.vocabulary.id_of("pad")
    reader = RowGroupReader(columns_read(heldout.top_k))
    filled = heldout.row_groups[heldout.row_groups[:, 2] > 0]
    for number, group, _ in filled[rank::world_size].tolist():
        file = heldout.file(number)
        columns = Columns.of(reader.read(file, group), heldout.top_k)
        piece = Piece(columns, slice(0, len(columns)), languages.index(file.record.language), 0, file, group)
        yield from make_batches([piece], batch_tokens, pad_id)


def format_scores(scores: dict[str, LanguageScores]) -> str:
    """Formats the scores as an aligned table."""
    rows = []
    for language, row in scores.items():
        figures = (row.accuracy, row.nll, row.teacher_accuracy, row.teacher_nll)
        rows.append(
            [language, *("-" if figure is None else f"{figure:.3f}" for figure in figures), f"{row.positions:,}"]
        )
    return format_table(["", "accuracy", "NLL", "teacher", "NLL", "positions"], rows)
