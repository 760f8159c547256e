"""The union of the teachers' vocabularies."""

import re

import numpy as np

from pipeline.teachers.tokenizer import TeacherTokenizer
from pipeline.vocabulary.identity import FAMILIES, Identity, display, parse, string_identity
from schemas.errors import UserError
from schemas.vocabulary import LITERAL, SPECIAL_ROLES, Vocabulary

# How the special roles are written in the merged vocabulary (RoBERTa's names).
SPECIAL_TOKENS = {"pad": "<pad>", "unknown": "<unk>", "start": "<s>", "end": "</s>", "mask": "<mask>"}
# Placeholders that BERT vocabularies reserve; no text makes them.
_UNUSED = re.compile(r"\[unused\d+\]|madeupword\d+")


def identities(teacher: TeacherTokenizer, identity: str) -> dict[int, Identity]:
    """Own id -> identity, injective, in ascending own ids.

    Special tokens go by their role. Where two tokens of one teacher stand for the same
    thing, the one with the lower id has the identity and the other stays literal.
    """
    rule = FAMILIES[teacher.family] if identity == "family" else string_identity
    by_role = {own: Identity(role, SPECIAL_TOKENS[role].encode()) for role, own in teacher.roles.items()}
    taken: set[Identity] = set()
    result = {}
    for own, token in sorted(teacher.tokens.items()):
        literal = own in teacher.added or _UNUSED.fullmatch(token)
        found = by_role.get(own) or (string_identity(token) if literal else rule(token))
        if found in taken:
            found = Identity(LITERAL, token.encode())
        taken.add(found)
        result[own] = found
    return result


def merge(teachers: list[TeacherTokenizer], identity: str = "family", base: Vocabulary | None = None) -> Vocabulary:
    """The merged vocabulary of `teachers`, appended to `base`.

    Ids are given in the order of the teachers and, within one, of its own ids: the
    first teacher of a vocabulary without gaps keeps its ids, and a further teacher
    only appends.

    Args:
      identity: `family` (the rules of `pipeline.vocabulary.identity`) or `string`.
      base: an earlier merged vocabulary by the same identity, all of whose ids stay.

    Raises:
      UserError: a teacher's map would not be total and injective, or `base` knows another
        teacher by the same name.
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
        column = {merged.setdefault(found, len(merged)): own for own, found in identities(teacher, identity).items()}
        if columns.setdefault(teacher.name, column) != column:
            raise UserError(
                f"teacher {teacher.name!r}: the vocabulary that this run extends was made with another tokenizer of "
                "that name, or was trimmed; give this one another name"
            )
    # Where every teacher pads with a token that means something else, none has one for padding alone.
    merged.setdefault(Identity("pad", SPECIAL_TOKENS["pad"].encode()), len(merged))
    teacher_ids = {}
    for name, own_by_merged in columns.items():
        ids = np.full(len(merged), -1, np.int32)
        ids[np.fromiter(own_by_merged, np.int64)] = np.fromiter(own_by_merged.values(), np.int64)
        teacher_ids[name] = ids
    vocabulary = Vocabulary([display(found) for found in merged], [found.kind for found in merged], teacher_ids)
    for teacher in teachers:
        check_map(teacher, vocabulary)
    return vocabulary


def check_map(teacher: TeacherTokenizer, vocabulary: Vocabulary) -> None:
    """Refuses a map that misses a token of the teacher or gives two of them one merged id."""
    table = vocabulary.to_merged(teacher.name)
    own = np.array(sorted(teacher.tokens))
    images = table[own]
    if (images < 0).any():
        lost = teacher.tokens[int(own[images < 0][0])]
        raise UserError(f"teacher {teacher.name!r}: the merged vocabulary has no token for its {lost!r}")
    values, counts = np.unique(images, return_counts=True)
    if (counts > 1).any():
        clash = vocabulary.tokens[int(values[counts > 1][0])]
        raise UserError(f"teacher {teacher.name!r}: two of its tokens map to the merged token {clash!r}")
    for role in SPECIAL_ROLES:
        if role in teacher.roles and vocabulary.roles[table[teacher.roles[role]]] != role:
            raise UserError(f"teacher {teacher.name!r}: its {role} token maps to a token of another role")
