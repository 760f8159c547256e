"""Rows of the student's embedding from its teachers' rows, compared with means made one row at a time."""

from dataclasses import replace

import pytest
import torch

from schemas.errors import UserError
from tests.support.students import make_model, make_vocabulary, tables
from trainer.student.alignment import align_rows
from trainer.student.token_rows import TokenRows


@pytest.mark.parametrize("tied", [True, False])
def test_token_rows_are_the_mean_of_their_owners_rows(tied):
    vocabulary = make_vocabulary({"a": [0, 1, 2, 5], "b": [1, 2, 3], "c": [2, 6]}, 8)
    # More rows than tokens, as in models that pad the number of rows.
    teachers = {name: make_model("bert", 9, seed, tie_word_embeddings=tied) for seed, name in enumerate("abc")}
    student = make_model("bert", 8, 9, tie_word_embeddings=tied)
    before = tables(student)
    token_rows = TokenRows(student, vocabulary)
    for name, teacher in teachers.items():
        token_rows.add(name, teacher)
    (line,) = token_rows.finish()
    assert line == (
        "token rows: 2 from a alone, 1 from b alone, 1 from c alone, 2 averaged over several teachers, 2 random"
    )
    for number, (actual, was) in enumerate(zip(tables(student), before, strict=True)):
        for token in range(8):
            rows = [
                tables(teacher)[number][ids[token]]
                for teacher, ids in zip(teachers.values(), vocabulary.teacher_ids.values(), strict=True)
                if ids[token] >= 0
            ]
            expected = sum(row.double() for row in rows) / len(rows) if rows else was[token].double()
            torch.testing.assert_close(actual[token].double(), expected, rtol=1e-6, atol=1e-6)
            if len(rows) < 2:
                assert actual[token].equal(expected.float())
    assert (student.get_output_embeddings().weight is student.get_input_embeddings().weight) is tied


def test_teachers_of_another_width_give_no_rows():
    vocabulary = make_vocabulary({"a": [0, 1], "wide": [1, 2]}, 3)
    student, wide = make_model("bert", 3, 0), make_model("bert", 3, 2, hidden_size=32)
    token_rows = TokenRows(student, vocabulary)
    token_rows.add("wide", wide)
    with pytest.raises(UserError, match=r"rows are 16 wide, but no teacher's are \(wide: 32\)"):
        token_rows.finish()
    token_rows.add("a", make_model("bert", 3, 1))
    assert token_rows.finish()[1] == "token rows: none from wide, whose rows are 32 wide"


def test_a_teacher_with_fewer_rows_than_ids_is_refused():
    token_rows = TokenRows(make_model("bert", 9, 0), make_vocabulary({"a": list(range(9))}, 9))
    with pytest.raises(UserError, match="its ids up to 8, but its model has only 5 rows"):
        token_rows.add("a", make_model("bert", 5, 0))


@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_are_given_take_no_part_in_means(tied):
    vocabulary = make_vocabulary({"a": [0, 1, 2, 5], "b": [1, 2, 3]}, 7)
    student, start, a, b = (make_model("bert", rows, rows, tie_word_embeddings=tied) for rows in (7, 3, 5, 6))
    before = tables(student)
    token_rows = TokenRows(student, vocabulary)
    token_rows.settle("start", start, torch.tensor([2, 0, -1, -1, 1, -1, -1]))
    token_rows.add("a", a)
    token_rows.add("b", b)
    assert token_rows.finish() == [
        "token rows: 3 unchanged, 1 from a alone, 1 from b alone, 1 averaged over several teachers, 1 random"
    ]
    own_a, own_b = (vocabulary.teacher_ids[name] for name in "ab")
    for actual, old, of_a, of_b, was in zip(*map(tables, (student, start, a, b)), before, strict=True):
        assert actual[[0, 1, 4]].equal(old[[2, 0, 1]])
        assert actual[5].equal(of_a[own_a[5]]) and actual[3].equal(of_b[own_b[3]]) and actual[6].equal(was[6])
        torch.testing.assert_close(actual[2], (of_a[own_a[2]] + of_b[own_b[2]]) / 2)


def rotated_teachers(tied: bool, shared: int) -> tuple:
    """A vocabulary, a model over all of it, and two teachers with parts of its rows, the second's rotated and shifted.

    They share the token for padding and `shared` others.
    """
    size = 60
    middle = range(30 - shared, 30)
    vocabulary = make_vocabulary({"a": [0, *range(1, 30)], "b": [0, *middle, *range(30, size)]}, size)
    whole = make_model("bert", size, 3, tie_word_embeddings=tied)
    a, b = (make_model("bert", 64, seed, tie_word_embeddings=tied) for seed in (4, 5))
    rotation = torch.linalg.qr(torch.randn(16, 16)).Q
    with torch.no_grad():
        for teacher, turn, shift in ((a, torch.eye(16), 0), (b, rotation, 1)):
            ids = torch.from_numpy(vocabulary.teacher_ids["a" if teacher is a else "b"]).long()
            tokens = (ids >= 0).nonzero()[:, 0]
            for target, source in zip(rows_of(teacher), rows_of(whole), strict=True):
                target[ids[tokens]] = source[tokens] @ turn + shift if source.ndim == 2 else source[tokens] + shift
    # A special token means something else in each teacher.
    with torch.no_grad():
        b.get_input_embeddings().weight[vocabulary.teacher_ids["b"][0]] = 100
    return vocabulary, whole, a, b


def rows_of(model) -> list[torch.Tensor]:
    projection = model.get_output_embeddings()
    weights = {id(x): x for x in (model.get_input_embeddings().weight, projection.weight, projection.bias)}
    return list(weights.values())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("alignment", ["orthogonal", "least_squares"])
def test_rows_of_a_turned_space_come_back(alignment, tied):
    vocabulary, whole, a, b = rotated_teachers(tied, 20)
    student = make_model("bert", 60, 8, tie_word_embeddings=tied)
    token_rows = TokenRows(student, vocabulary, alignment)
    token_rows.settle_teacher("a", a)
    token_rows.add("b", b)
    assert token_rows.finish() == [
        "token rows: 30 from a, 30 from b alone, 0 averaged over several teachers, 0 random",
        f"token rows: those of b mapped into the space of a ({alignment}), fitted to 20 shared tokens",
    ]
    for actual, expected in zip(tables(student), tables(whole), strict=True):
        assert actual[:30].equal(expected[:30])
        torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


def test_aligned_rows_of_several_teachers_are_averaged():
    vocabulary = make_vocabulary({"a": list(range(25)), "b": list(range(3, 30)), "c": [*range(5, 24), 28, 29]}, 30)
    student = make_model("bert", 30, 8)
    a, b, c = (make_model("bert", 30, seed) for seed in range(3))
    token_rows = TokenRows(student, vocabulary, "least_squares")
    token_rows.settle_teacher("a", a)
    token_rows.add("b", b)
    of_b = student.get_input_embeddings().weight.detach().clone()
    token_rows.add("c", c)
    of_c = student.get_input_embeddings().weight.detach() - of_b
    assert token_rows.finish()[0] == (
        "token rows: 25 from a, 3 from b alone, 0 from c alone, 2 averaged over several teachers, 0 random"
    )
    actual = student.get_input_embeddings().weight
    assert actual[25:28].equal(of_b[25:28])
    torch.testing.assert_close(actual[28:], (of_b[28:] + of_c[28:]) / 2)


@pytest.mark.parametrize("alignment", ["orthogonal", "least_squares", "omp"])
def test_a_teacher_of_another_width_gives_rows_where_they_can_be_mapped(alignment):
    vocabulary = make_vocabulary({"a": list(range(40)), "wide": list(range(2, 50))}, 50)
    student, wide = make_model("bert", 50, 0), make_model("bert", 50, 2, hidden_size=32)
    token_rows = TokenRows(student, vocabulary, alignment)
    token_rows.settle_teacher("a", make_model("bert", 50, 1))
    token_rows.add("wide", wide)
    _, line = token_rows.finish()
    if alignment == "orthogonal":
        assert line == "token rows: none from wide, whose rows are 32 wide"
    else:
        assert line.startswith("token rows: those of wide mapped into the space of a")
        ids = torch.from_numpy(vocabulary.teacher_ids["wide"]).long()
        expected = align_rows(alignment, *(tables(wide)[0][ids[part]] for part in (slice(40, 50), slice(2, 40))),
                              student.get_input_embeddings().weight.detach()[2:40])  # fmt: skip
        torch.testing.assert_close(student.get_input_embeddings().weight[40:].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("alignment", "shared", "needed"), [("orthogonal", 1, 2), ("least_squares", 2, 3), ("omp", 3, 4)]
)
def test_too_few_shared_tokens_are_refused(alignment, shared, needed):
    """The teachers also share the padding token, but it is not an ordinary token."""
    vocabulary, _, a, b = rotated_teachers(True, shared)
    token_rows = TokenRows(make_model("bert", 60, 8), vocabulary, alignment)
    token_rows.settle_teacher("a", a)
    with pytest.raises(
        UserError,
        match=f"teacher 'b' and 'a' share {shared} ordinary tokens, but {alignment} needs {needed} at a width of 16",
    ):
        token_rows.add("b", b)


def test_literal_tokens_are_anchors_only_where_all_are():
    vocabulary, _, a, b = rotated_teachers(True, 20)
    roles = ["pad"] + ["literal" if 15 <= token < 30 else "word" for token in range(1, 60)]
    for given, shared in ((roles, 5), (["pad"] + ["literal"] * 59, 20)):
        token_rows = TokenRows(make_model("bert", 60, 8), replace(vocabulary, roles=given), "least_squares")
        token_rows.settle_teacher("a", a)
        token_rows.add("b", b)
        assert f"fitted to {shared} shared tokens" in token_rows.finish()[1]


def test_an_anchor_of_another_width_is_refused():
    vocabulary = make_vocabulary({"wide": [0, 1], "b": [1, 2]}, 3)
    token_rows = TokenRows(make_model("bert", 3, 0), vocabulary, "omp")
    with pytest.raises(UserError, match=r"teacher 'wide', into whose space .* 32 wide, but the student's are 16; give"):
        token_rows.settle_teacher("wide", make_model("bert", 3, 1, hidden_size=32))
