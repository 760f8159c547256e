"""Rows of the student's embedding from those of its teachers, beside means made one row at a time."""

import pytest
import torch

from schemas.errors import UserError
from tests.support.students import make_model, make_vocabulary, tables
from trainer.student.token_rows import TokenAverage


@pytest.mark.parametrize("tied", [True, False])
def test_token_rows_are_the_mean_of_their_owners_rows(tied):
    vocabulary = make_vocabulary({"a": [0, 1, 2, 5], "b": [1, 2, 3], "c": [2, 6]}, 8)
    # More rows than tokens, as models have that make the number round.
    teachers = {name: make_model("bert", 9, seed, tie_word_embeddings=tied) for seed, name in enumerate("abc")}
    student = make_model("bert", 8, 9, tie_word_embeddings=tied)
    before = tables(student)
    average = TokenAverage(student, vocabulary)
    for name, teacher in teachers.items():
        average.add(name, teacher)
    (line,) = average.finish()
    assert line == (
        "token rows: 2 from a alone, 1 from b alone, 1 from c alone, 2 averaged over several teachers, 2 random"
    )
    for number, (found, was) in enumerate(zip(tables(student), before, strict=True)):
        for token in range(8):
            rows = [
                tables(teacher)[number][own[token]]
                for teacher, own in zip(teachers.values(), vocabulary.teacher_ids.values(), strict=True)
                if own[token] >= 0
            ]
            expected = sum(row.double() for row in rows) / len(rows) if rows else was[token].double()
            torch.testing.assert_close(found[token].double(), expected, rtol=1e-6, atol=1e-6)
            if len(rows) < 2:
                assert found[token].equal(expected.float())
    assert (student.get_output_embeddings().weight is student.get_input_embeddings().weight) is tied


def test_teachers_of_another_width_give_no_rows():
    vocabulary = make_vocabulary({"a": [0, 1], "wide": [1, 2]}, 3)
    student, wide = make_model("bert", 3, 0), make_model("bert", 3, 2, hidden_size=32)
    average = TokenAverage(student, vocabulary)
    average.add("wide", wide)
    with pytest.raises(UserError, match=r"rows are 16 wide, the teachers' are not \(wide: 32\)"):
        average.finish()
    average.add("a", make_model("bert", 3, 1))
    assert average.finish()[1] == "token rows: none from wide, 32 wide"


def test_a_teacher_with_fewer_rows_than_ids_is_refused():
    average = TokenAverage(make_model("bert", 9, 0), make_vocabulary({"a": list(range(9))}, 9))
    with pytest.raises(UserError, match="its ids up to 8, but its model has only 5 rows"):
        average.add("a", make_model("bert", 5, 0))


@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_are_given_take_no_part_in_means(tied):
    vocabulary = make_vocabulary({"a": [0, 1, 2, 5], "b": [1, 2, 3]}, 7)
    student, start, a, b = (make_model("bert", rows, rows, tie_word_embeddings=tied) for rows in (7, 3, 5, 6))
    before = tables(student)
    average = TokenAverage(student, vocabulary)
    average.settle(start, torch.tensor([2, 0, -1, -1, 1, -1, -1]))
    average.add("a", a)
    average.add("b", b)
    assert average.finish() == [
        "token rows: 3 as they were, 1 from a alone, 1 from b alone, 1 averaged over several teachers, 1 random"
    ]
    own_a, own_b = (vocabulary.teacher_ids[name] for name in "ab")
    for found, old, of_a, of_b, was in zip(*map(tables, (student, start, a, b)), before, strict=True):
        assert found[[0, 1, 4]].equal(old[[2, 0, 1]])
        assert found[5].equal(of_a[own_a[5]]) and found[3].equal(of_b[own_b[3]]) and found[6].equal(was[6])
        torch.testing.assert_close(found[2], (of_a[own_a[2]] + of_b[own_b[2]]) / 2)
