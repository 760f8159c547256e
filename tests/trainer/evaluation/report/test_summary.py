"""The summary at the top of the report, and the tallies in it."""

from dataclasses import replace

import pytest

from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.report.content import STUDENT_BETTER, TEACHER_BETTER, UNCLEAR, Comparison
from trainer.evaluation.report.summary import summary_of
from trainer.evaluation.report.tally import tally_by_student
from trainer.evaluation.report.teachers_section import teachers_section


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return content_of(make_evaluation(tmp_path_factory.mktemp("summary")))


def comparison(student: str, teacher: str, verdict: str) -> Comparison:
    return Comparison("tagging", "accuracy", student, teacher, None, "de", None, None, None, None, verdict)


def test_one_sentence_for_each_student(content):
    made = [
        *(comparison("a", teacher, STUDENT_BETTER) for teacher in ("t", "u", "u")),
        comparison("a", "t", UNCLEAR),
        comparison("a", "t", TEACHER_BETTER),
        comparison("a", "t", "not compared: other tokens"),
        comparison("b", "t", UNCLEAR),
        comparison("c", "t", "not compared: other tokens"),
    ]
    assert tally_by_student(made)["a"] == (3, 1, 1, 1)
    about, *sentences = summary_of(replace(content, comparisons=made))
    assert about == "4 models, 4 tasks, 3 languages."
    assert sentences == [
        "a is clearly better than its teachers in 3 of 5 comparisons, and clearly worse in 1; there is no clear difference "
        "in 1. 1 more cannot be compared.",
        "b is clearly better than its teacher in 0 of 1 comparison, and clearly worse in 0; there is no clear difference "
        "in 1.",
        "c cannot be compared with its teacher on any of this data.",
    ]
    assert summary_of(replace(content, comparisons=[])) == [about]


def test_tests_in_another_language_than_that_of_the_labels_are_counted_alone(content):
    made = [
        replace(comparison("a", "t", verdict), trained_on=trained_on)
        for trained_on, verdict in (("de", TEACHER_BETTER), ("fi", STUDENT_BETTER), ("tr", STUDENT_BETTER))
    ]
    changed = replace(content, comparisons=made)
    assert summary_of(changed)[1:] == [
        "a is clearly better than its teacher in 0 of 1 comparison, and clearly worse in 1; there is no clear difference "
        "in 0.",
        "Trained on labels of one language and tested in another, a is clearly better than its teacher of the first language "
        "in 2 of 2 comparisons, and clearly worse in 0; there is no clear difference in 0.",
    ]
    groups = teachers_section(changed).tables[0].groups
    assert [[cell.text for cell in group.rows[0].cells] for group in groups] == [
        ["0", "0", "1", "0"],
        ["2", "0", "0", "0"],
    ]
    (group,) = teachers_section(replace(content, comparisons=made[1:])).tables[0].groups
    assert group.heading and len(summary_of(replace(content, comparisons=made[1:]))) == 2


def test_the_verdict_comes_first(content):
    tally, student, _ = teachers_section(content).tables
    assert student.header == ["language", "verdict", "difference"]
    row = student.groups[0].rows[0]
    assert (row.heading, row.detail, row.cells[0].text) == ("de", "against teacher-de", STUDENT_BETTER)
    assert row.cells[0].details == ("p = 0.005",)
    assert [cell.text for cell in tally.groups[0].rows[0].cells] == ["6", "0", "0", "2"]
