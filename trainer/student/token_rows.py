"""Rows of merged tokens: averaged over the teachers that have them, optionally mapped into one space first."""

import torch
from transformers import PreTrainedModel

from schemas.errors import UserError
from schemas.vocabulary import CONTINUATION, LITERAL, WORD, Vocabulary
from trainer.student.alignment import ANY_WIDTH, align_tables, shared_needed


class TokenRows:
    """Overwrites the student's rows of merged tokens with the mean of their teachers' rows, teacher by teacher.

    These are the rows of the embedding, of the vocabulary projection unless the student ties it to the embedding, and
    of the projection's bias. Rows of tokens that no teacher has do not change. Settled rows (of the model that the
    student continues from, or of the teacher into whose space the others are mapped) are copied unchanged: no other
    teacher's rows are averaged with them.

    With an alignment, the other teachers' rows are mapped before they are averaged (`trainer.student.alignment`).

    Args:
      alignment: `none`, or a method of `trainer.student.alignment`.
    """

    def __init__(self, student: PreTrainedModel, vocabulary: Vocabulary, alignment: str = "none"):
        projection = student.get_output_embeddings()
        self._untied = projection.weight is not student.get_input_embeddings().weight
        self._targets = _rows_of(student, self._untied)
        self._vocabulary = vocabulary
        self._alignment = alignment
        self._owners_V = torch.zeros(len(vocabulary), dtype=torch.int32)
        self._is_settled_V = torch.zeros(len(vocabulary), dtype=torch.bool)
        self._anchor = self._origin = ""
        self._gave: dict[str, torch.Tensor] = {}
        self._other_widths: dict[str, str] = {}
        self._mapped: list[str] = []

    @torch.no_grad()
    def settle(self, name: str, start: PreTrainedModel, rows_V: torch.Tensor, origin: str = "unchanged") -> None:
        """Copies rows of `start`, called `name`: the model the student continues from, or the anchor of an alignment.

        Args:
          start: a model with the student's shape.
          rows_V: for each merged token its row, or -1 to skip it.
          origin: the description of these rows in the printed line.
        """
        settled = (rows_V >= 0).nonzero()[:, 0]
        for target, source in zip(self._targets, _rows_of(start, self._untied), strict=True):
            target[settled] = source[rows_V[settled]]
        self._is_settled_V[settled] = True
        self._anchor, self._origin = name, origin

    @torch.no_grad()
    def settle_teacher(self, name: str, teacher: PreTrainedModel) -> None:
        """Copies all rows of the teacher `name`, into whose space the other teachers' rows are mapped.

        Raises:
          UserError: they are not as wide as the student's.
        """
        sources = _rows_of(teacher, self._untied)
        if not self._fits(sources):
            raise UserError(
                f"student.token_alignment: the rows of teacher {name!r}, into whose space the other teachers' rows are mapped, "
                f"are {_widths(sources)} wide, but the student's are {_widths(self._targets)}; give the student that width "
                "in student.settings, or name a teacher of the student's width in student.encoder_from"
            )
        self.settle(name, teacher, self._teacher_ids(name, sources), f"from {name}")

    @torch.no_grad()
    def add(self, name: str, teacher: PreTrainedModel) -> None:
        """Adds the teacher's rows of the unsettled tokens that it has, if they are as wide as the student's.

        Rows of another width are added only if the alignment can map them.

        Raises:
          UserError: the teacher shares too few tokens with the anchor to be mapped.
        """
        sources = _rows_of(teacher, self._untied)
        if not self._fits(sources) and self._alignment not in ANY_WIDTH:
            self._other_widths[name] = _widths(sources)
            return
        teacher_ids_V = self._teacher_ids(name, sources)
        owned = ((teacher_ids_V >= 0) & ~self._is_settled_V).nonzero()[:, 0]
        if self._alignment == "none" or not len(owned):
            rows = [source[teacher_ids_V[owned]] for source in sources]
        else:
            rows = self._align(name, sources, teacher_ids_V, owned)
        is_first = self._owners_V[owned] == 0
        for target, of_teacher in zip(self._targets, rows, strict=True):
            target[owned[is_first]] = of_teacher[is_first]
            target[owned[~is_first]] += of_teacher[~is_first]
        self._owners_V[owned] += 1
        self._gave[name] = owned

    @torch.no_grad()
    def finish(self) -> list[str]:
        """Turns sums into means. Returns lines that count the tokens by the source of their rows.

        Raises:
          UserError: no teacher's rows are as wide as the student's.
        """
        if self._other_widths and not self._gave and self._alignment == "none":
            widths = ", ".join(f"{name}: {width}" for name, width in self._other_widths.items())
            raise UserError(
                f"student.embeddings_from_teachers: the student's rows are {_widths(self._targets)} wide, but no teacher's "
                f"are ({widths}); give the student a teacher's width in student.settings, or leave this field out"
            )
        shared = (self._owners_V > 1).nonzero()[:, 0]
        owners = self._owners_V[shared].float()
        for target in self._targets:
            target[shared] /= owners.view(-1, *[1] * (target.ndim - 1))
        counts = [
            f"{int((self._owners_V[owned] == 1).sum()):,} from {name} alone" for name, owned in self._gave.items()
        ]
        if settled := int(self._is_settled_V.sum()):
            counts.insert(0, f"{settled:,} {self._origin}")
        random = int((~self._is_settled_V & (self._owners_V == 0)).sum())
        return [
            f"token rows: {', '.join(counts)}, {len(shared):,} averaged over several teachers, {random:,} random",
            *self._mapped,
            *(
                f"token rows: none from {name}, whose rows are {width} wide"
                for name, width in self._other_widths.items()
            ),
        ]

    def _align(
        self, name: str, sources: list[torch.Tensor], teacher_ids_V: torch.Tensor, owned: torch.Tensor
    ) -> list[torch.Tensor]:
        """Returns the teacher's rows of the tokens `owned` in the anchor's space, float32, like `_rows_of`."""
        shared = ((teacher_ids_V >= 0) & self._is_settled_V & self._is_ordinary()).nonzero()[:, 0]
        width = max(source.shape[1] for source in sources if source.ndim == 2)
        if len(shared) < (needed := shared_needed(self._alignment, width)):
            raise UserError(
                f"student.token_alignment: teacher {name!r} and {self._anchor!r} share {len(shared):,} ordinary tokens, "
                f"but {self._alignment} needs {needed:,} at a width of {width}; choose another alignment, or `none`"
            )
        rows, theirs = ([source[teacher_ids_V[tokens]] for source in sources] for tokens in (owned, shared))
        mapped = align_tables(self._alignment, rows, theirs, [target[shared] for target in self._targets])
        self._mapped.append(
            f"token rows: those of {name} mapped into the space of {self._anchor} ({self._alignment}), fitted to {len(shared):,} "
            "shared tokens"
        )
        return mapped

    def _is_ordinary(self) -> torch.Tensor:
        """Which tokens stand for text: bool [V].

        Special tokens have a different meaning in each teacher's training, and literal ones (`[unused7]`) were hardly
        trained. But in a vocabulary that is merged by strings, all tokens are literal.
        """
        roles = self._vocabulary.roles
        ordinary = {WORD, CONTINUATION} if {WORD, CONTINUATION} & set(roles) else {LITERAL}
        return torch.tensor([role in ordinary for role in roles])

    def _fits(self, sources: list[torch.Tensor]) -> bool:
        return all(theirs.shape[1:] == ours.shape[1:] for theirs, ours in zip(sources, self._targets, strict=True))

    def _teacher_ids(self, name: str, sources: list[torch.Tensor]) -> torch.Tensor:
        """The teacher's row for each merged token, or -1. Raises UserError if the model lacks one."""
        teacher_ids_V = torch.from_numpy(self._vocabulary.teacher_ids[name]).long()
        if teacher_ids_V.max() >= len(sources[0]):
            raise UserError(
                f"teacher {name!r}: the merged vocabulary has its ids up to {teacher_ids_V.max()}, but its model has only "
                f"{len(sources[0])} rows; restore the teacher that made the predictions"
            )
        return teacher_ids_V


def _rows_of(model: PreTrainedModel, untied: bool) -> list[torch.Tensor]:
    """The tensors with one row per token: embedding, projection bias (zeros if none), and projection if `untied`."""
    projection = model.get_output_embeddings()
    bias = torch.zeros(len(projection.weight)) if projection.bias is None else projection.bias
    return [model.get_input_embeddings().weight, bias, *([projection.weight] if untied else [])]


def _widths(rows: list[torch.Tensor]) -> str:
    return " and ".join(dict.fromkeys(str(tensor.shape[1]) for tensor in rows if tensor.ndim == 2))
