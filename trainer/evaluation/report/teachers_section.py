"""The section that compares students with their teachers."""

from trainer.evaluation.report.content import Comparison, Content
from trainer.evaluation.report.tables import Group, Row, Section, Table, formatted, interval, number, text
from trainer.evaluation.report.tally import tally_by_student


def teachers_section(content: Content) -> Section | None:
    """How often students are better than their teachers, then every comparison."""
    if not content.comparisons:
        return None
    paragraphs = [
        "A difference is the student's value minus its teacher's on the same test data, with a 95 % interval (paired "
        "bootstrap) below it; p is from a paired randomization test. A difference is clear if the interval does not contain 0 "
        "and p < 0.05. An arrow points from the language of the training data to that of the test data.",
        "Figures of masked tokens are compared only if student and teacher predict the same tokens; the model with the larger "
        "vocabulary has more tokens to choose from. Purely descriptive figures are not compared, and neither is retrieval, "
        "because it is between two languages.",
    ]
    students = list(dict.fromkeys(comparison.student for comparison in content.comparisons))
    tables = [_tally_table(content), *(_student_table(content, student) for student in students)]
    return Section("teachers", "Students against their teachers", paragraphs, tables)


def _tally_table(content: Content) -> Table:
    groups = []
    for heading, is_crossing in (("", False), ("Trained on labels of one language, tested in another", True)):
        tallies = tally_by_student(c for c in content.comparisons if c.is_crossing == is_crossing)
        rows = [Row(student, [number(count, "{:,}") for count in tally]) for student, tally in tallies.items()]
        groups.append(Group(heading, rows))
    header = ["student", "better", "no clear difference", "worse", "not compared"]
    return Table("Number of comparisons below, by verdict", header, [group for group in groups if group.rows])


def _student_table(content: Content, student: str) -> Table:
    of_student = [comparison for comparison in content.comparisons if comparison.student == student]
    groups = [
        Group(
            f"{task.title}, {metric.title_with_direction}",
            [_row(c) for c in of_student if (c.task, c.metric) == (task.key, metric.key)],
        )
        for task in content.tasks
        for metric in task.metrics
    ]
    # The verdict comes first, so that it is visible on a phone.
    header = ["language", "verdict", "difference"]
    return Table(f"{student} against its teachers", header, [group for group in groups if group.rows])


def _row(comparison: Comparison) -> Row:
    c = comparison
    heading = f"{c.trained_on} → {c.language}" if c.is_crossing else c.language
    p = "" if c.p is None else f"p = {formatted(c.p)}"
    difference = number(c.difference, "{:+.3f}", details=[interval(c.low, c.high, "{:+.3f}")])
    return Row(heading, [text(c.verdict, [p]), difference], f"against {c.teacher}")
