"""The summary at the top of a report."""

from trainer.evaluation.report.content import Content
from trainer.evaluation.report.tables import counted
from trainer.evaluation.report.tally import Tally, tally_by_student


def summary_of(content: Content) -> list[str]:
    """Returns a sentence about what was evaluated, and one for each student about how it compares with its teachers."""
    counts = [(len(content.models), "model"), (len(content.tasks), "task"), (len(content.languages), "language")]
    about = ", ".join(counted(count, noun) for count, noun in counts) + "."
    teachers = {
        student: {c.teacher for c in content.comparisons if c.student == student} for student in _students(content)
    }
    tallies = tally_by_student(content.comparisons)
    return [about, *(_sentence(student, tally, len(teachers[student])) for student, tally in tallies.items())]


def _students(content: Content) -> set[str]:
    return {comparison.student for comparison in content.comparisons}


def _sentence(student: str, tally: Tally, teachers: int) -> str:
    """Returns how often a student is better and worse than its teachers, in words."""
    opponents = "its teachers" if teachers > 1 else "its teacher"
    if not tally.compared:
        return f"{student} cannot be compared with {opponents} on any of this data."
    rest = f" {tally.not_compared:,} more cannot be compared." if tally.not_compared else ""
    return (
        f"{student} is clearly better than {opponents} in {tally.better:,} of {counted(tally.compared, 'comparison')}, and "
        f"clearly worse in {tally.worse:,}; there is no clear difference in {tally.unclear:,}.{rest}"
    )
