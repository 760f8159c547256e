"""The summary at the top of a report."""

from trainer.evaluation.report.content import Content
from trainer.evaluation.report.tables import counted
from trainer.evaluation.report.tally import Tally, tally_by_student


def summary_of(content: Content) -> list[str]:
    """Returns a sentence about what was evaluated, and one or two for each student about how it compares with its teachers.

    Tests in another language than that of the labels have a sentence of their own. There are many of them, and a teacher may
    be worse there only because it was not made for that language.
    """
    counts = [(len(content.models), "model"), (len(content.tasks), "task"), (len(content.languages), "language")]
    about = ", ".join(counted(count, noun) for count, noun in counts) + "."
    tallies = {
        is_crossing: tally_by_student(c for c in content.comparisons if c.is_crossing == is_crossing)
        for is_crossing in (False, True)
    }
    sentences = []
    for student in dict.fromkeys(comparison.student for comparison in content.comparisons):
        teachers = {c.teacher for c in content.comparisons if c.student == student}
        for is_crossing, by_student in tallies.items():
            if student in by_student:
                sentences.append(_sentence(student, by_student[student], len(teachers), is_crossing))
    return [about, *sentences]


def _sentence(student: str, tally: Tally, teachers: int, is_crossing: bool) -> str:
    """Returns how often a student is better and worse than its teachers, in words."""
    opponents = "its teachers" if teachers > 1 else "its teacher"
    if is_crossing:
        student = f"Trained on labels of one language and tested in another, {student}"
        opponents += " of the first language"
    if not tally.compared:
        return f"{student} cannot be compared with {opponents} on any of this data."
    rest = f" {tally.not_compared:,} more cannot be compared." if tally.not_compared else ""
    return (
        f"{student} is clearly better than {opponents} in {tally.better:,} of {counted(tally.compared, 'comparison')}, and "
        f"clearly worse in {tally.worse:,}; there is no clear difference in {tally.unclear:,}.{rest}"
    )
