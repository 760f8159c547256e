"""The report as Markdown."""

from dataclasses import replace
from pathlib import Path

from tests.support.evaluations import make_evaluation
from trainer.evaluation.report.collect import content_of
from trainer.evaluation.report.markdown import escaped, to_markdown
from trainer.evaluation.report.sections import sections_of
from trainer.evaluation.report.summary import summary_of
from trainer.evaluation.report.tables import Cell, Group, Row, Section, Table

# After an intended change, write the new Markdown there.
GOLDEN = Path(__file__).with_name("golden.md")


def markdown_of(folder) -> str:
    """The report without paths and versions."""
    content = content_of(make_evaluation(folder))
    content = replace(
        content,
        models=[replace(model, model=model.name) for model in content.models],
        measurement=replace(content.measurement, versions={"mergedistill": "1.0"}),
    )
    return to_markdown(content.title, summary_of(content), sections_of(content))


def test_a_whole_report(tmp_path):
    assert markdown_of(tmp_path) == GOLDEN.read_text()


def test_names_are_only_text():
    hostile = "a|b <script>[x](http://y) **c** _d_\n# e ~~f~~ `g`\x1b"
    table = Table(
        hostile,
        [hostile, hostile],
        [Group(hostile, [Row(hostile, [Cell(hostile, (hostile, hostile), is_best=True)], hostile)])],
    )
    lines = to_markdown(hostile, [hostile, hostile], [Section("key", hostile, [hostile], [table])]).splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        f"# Evaluation: {escaped(hostile)}",
        f"## {escaped(hostile)}",
    ]
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4 and all(row.count("|") == 3 for row in rows)
    assert not set("<>[]`~") & set("".join(lines))


def test_plain_names_stay_as_they_are():
    assert escaped("bert-base_v1.0") == "bert-base&#95;v1.0" and escaped("org/model (de)") == "org/model (de)"
