"""The rows of merged tokens, averaged over the teachers that have them."""

import torch
from transformers import PreTrainedModel

from schemas.errors import UserError
from schemas.vocabulary import Vocabulary


class TokenAverage:
    """Overwrites the student's rows of merged tokens with the mean of their teachers' rows, teacher by teacher.

    These are the rows of the embedding, those of the vocabulary projection unless the student ties it to the embedding,
    and the projection's bias. Rows of tokens that no teacher has stay as they are. Rows that the student goes on from
    are taken unchanged: no teacher's rows are averaged with them.
    """

    def __init__(self, student: PreTrainedModel, vocabulary: Vocabulary):
        projection = student.get_output_embeddings()
        self._untied = projection.weight is not student.get_input_embeddings().weight
        self._targets = _rows_of(student, self._untied)
        self._vocabulary = vocabulary
        self._owners_V = torch.zeros(len(vocabulary), dtype=torch.int32)
        self._is_settled_V = torch.zeros(len(vocabulary), dtype=torch.bool)
        self._gave: dict[str, torch.Tensor] = {}
        self._other_widths: dict[str, str] = {}

    @torch.no_grad()
    def settle(self, start: PreTrainedModel, rows_V: torch.Tensor) -> None:
        """Takes rows of `start`, which has the student's shape: for each merged token the row `rows_V`, unless that is -1."""
        settled = (rows_V >= 0).nonzero()[:, 0]
        for target, source in zip(self._targets, _rows_of(start, self._untied), strict=True):
            target[settled] = source[rows_V[settled]]
        self._is_settled_V[settled] = True

    @torch.no_grad()
    def add(self, name: str, teacher: PreTrainedModel) -> None:
        """Adds the rows of the unsettled tokens that the teacher `name` has, if they are as wide as the student's."""
        sources = _rows_of(teacher, self._untied)
        if any(source.shape[1:] != ours.shape[1:] for source, ours in zip(sources, self._targets, strict=True)):
            self._other_widths[name] = _widths(sources)
            return
        teacher_ids_V = torch.from_numpy(self._vocabulary.teacher_ids[name]).long()
        owned = ((teacher_ids_V >= 0) & ~self._is_settled_V).nonzero()[:, 0]
        if teacher_ids_V.max() >= len(sources[0]):
            raise UserError(
                f"teacher {name!r}: the merged vocabulary has its ids up to {teacher_ids_V.max()}, but its model has only "
                f"{len(sources[0])} rows; put back the teacher that made the predictions"
            )
        is_first = self._owners_V[owned] == 0
        first, further = owned[is_first], owned[~is_first]
        for target, source in zip(self._targets, sources, strict=True):
            target[first] = source[teacher_ids_V[first]]
            target[further] += source[teacher_ids_V[further]]
        self._owners_V[owned] += 1
        self._gave[name] = owned

    @torch.no_grad()
    def finish(self) -> list[str]:
        """Turns sums into means. Gives lines that count the tokens by where their rows came from.

        Raises:
          UserError: no teacher's rows are as wide as the student's.
        """
        if self._other_widths and not self._gave:
            widths = ", ".join(f"{name}: {width}" for name, width in self._other_widths.items())
            raise UserError(
                f"student.embeddings_from_teachers: the student's rows are {_widths(self._targets)} wide, the "
                f"teachers' are not ({widths}); give the student such a width in student.settings, or leave it out"
            )
        shared = (self._owners_V > 1).nonzero()[:, 0]
        owners = self._owners_V[shared].float()
        for target in self._targets:
            target[shared] /= owners.view(-1, *[1] * (target.ndim - 1))
        counts = [
            f"{int((self._owners_V[owned] == 1).sum()):,} from {name} alone" for name, owned in self._gave.items()
        ]
        if settled := int(self._is_settled_V.sum()):
            counts.insert(0, f"{settled:,} as they were")
        random = int((~self._is_settled_V & (self._owners_V == 0)).sum())
        return [
            f"token rows: {', '.join(counts)}, {len(shared):,} averaged over several teachers, {random:,} random",
            *(f"token rows: none from {name}, {width} wide" for name, width in self._other_widths.items()),
        ]


def _rows_of(model: PreTrainedModel, untied: bool) -> list[torch.Tensor]:
    """The tensors with one row for each token: embedding, projection's bias (zeros if none) and, if `untied`, its weight."""
    projection = model.get_output_embeddings()
    bias = torch.zeros(len(projection.weight)) if projection.bias is None else projection.bias
    return [model.get_input_embeddings().weight, bias, *([projection.weight] if untied else [])]


def _widths(rows: list[torch.Tensor]) -> str:
    return " and ".join(dict.fromkeys(str(tensor.shape[1]) for tensor in rows if tensor.ndim == 2))
