"""The union of the teachers' vocabularies."""

import re

import numpy as np

from pipeline.teachers.tokenizer import TeacherTokenizer
from pipeline.vocabulary.identity import FAMILIES, Identity, display, parse, string_identity
from schemas.errors import UserError
from schemas.vocabulary import LITERAL, SPECIAL_ROLES, Vocabulary

# The tokens of the special roles in the merged vocabulary (RoBERTa's names).
SPECIAL_TOKENS = {"pad": "<pad>", "unknown": "<unk>", "start": "<s>", "end": "</s>", "mask": "<mask>"}
# Placeholders that vocabularies reserve; no text produces them.
UNUSED = re.compile(r"\[unused\d+\]|madeupword\d+")


def identities(teacher: TeacherTokenizer, token_identity: str) -> dict[int, Identity]:
    """Returns the identity of each of the teacher's token ids, injective, in ascending order of the ids.

    Special tokens are identified by their role. If two tokens of one teacher stand for the same bytes at the same
    place, the one with the lower id gets that identity and the other stays literal.
    """
    rule = FAMILIES[teacher.family] if token_identity == "family" else string_identity
    by_role = {teacher_id: Identity(role, SPECIAL_TOKENS[role].encode()) for role, teacher_id in teacher.roles.items()}
    taken: set[Identity] = set()
    result = {}
    for teacher_id, token in sorted(teacher.tokens.items()):
        literal = teacher_id in teacher.added or UNUSED.fullmatch(token)
        identity = by_role.get(teacher_id) or (string_identity(token) if literal else rule(token))
        if identity in taken:
            identity = Identity(LITERAL, token.encode())
        taken.add(identity)
        result[teacher_id] = identity
    return result


def merge(
    teachers: list[TeacherTokenizer], token_identity: str = "family", base: Vocabulary | None = None
) -> Vocabulary:
    """Makes the merged vocabulary of `teachers`, appended to `base`.

    Merged ids follow the order of the teachers and, within a teacher, of its token ids: the first teacher keeps its ids
    if they have no gaps, and each further teacher only appends.

    Args:
      token_identity: `family` (the rules of `pipeline.vocabulary.identity`) or `string`.
      base: an earlier merged vocabulary with the same token identity, all of whose ids stay.

    Raises:
      UserError: a teacher's map would not be total and injective, or `base` has another
        teacher with the same name.
    """
    merged: dict[Identity, int] = {}
    columns: dict[str, dict[int, int]] = {}
    if base:
        merged = {parse(*written): number for number, written in enumerate(zip(base.roles, base.tokens, strict=True))}
        columns = {
            name: {int(number): int(ids[number]) for number in np.flatnonzero(ids >= 0)}
            for name, ids in base.teacher_ids.items()
        }
    for teacher in teachers:
        column = {
            merged.setdefault(identity, len(merged)): teacher_id
            for teacher_id, identity in identities(teacher, token_identity).items()
        }
        if columns.setdefault(teacher.name, column) != column:
            raise UserError(
                f"teacher {teacher.name!r}: the vocabulary that this run extends has a teacher of that name with another "
                "tokenizer, or was trimmed; give this teacher another name"
            )
    # If every teacher pads with a token that has another role, there is no padding-only token yet.
    merged.setdefault(Identity("pad", SPECIAL_TOKENS["pad"].encode()), len(merged))
    teacher_ids = {}
    for name, teacher_ids_by_merged in columns.items():
        ids = np.full(len(merged), -1, np.int32)
        ids[np.fromiter(teacher_ids_by_merged, np.int64)] = np.fromiter(teacher_ids_by_merged.values(), np.int64)
        teacher_ids[name] = ids
    vocabulary = Vocabulary(
        [display(identity) for identity in merged], [identity.role for identity in merged], teacher_ids
    )
    for teacher in teachers:
        check_map(teacher, vocabulary)
    return vocabulary


def check_map(teacher: TeacherTokenizer, vocabulary: Vocabulary) -> None:
    """Raises UserError if a token has no merged id, two tokens have the same one, or a special token's role differs."""
    table = vocabulary.to_merged(teacher.name)
    teacher_ids = np.array(sorted(teacher.tokens))
    images = table[teacher_ids]
    if (images < 0).any():
        lost = teacher.tokens[int(teacher_ids[images < 0][0])]
        raise UserError(f"teacher {teacher.name!r}: the merged vocabulary has no token for its {lost!r}")
    values, counts = np.unique(images, return_counts=True)
    if (counts > 1).any():
        clash = vocabulary.tokens[int(values[counts > 1][0])]
        raise UserError(f"teacher {teacher.name!r}: two of its tokens map to the merged token {clash!r}")
    for role in SPECIAL_ROLES:
        if role in teacher.roles and vocabulary.roles[table[teacher.roles[role]]] != role:
            raise UserError(f"teacher {teacher.name!r}: its {role} token maps to a token of another role")
