"""The report as Markdown."""

import re
from collections.abc import Iterable

from schemas.errors import printable
from schemas.tables import format_table
from trainer.evaluation.report.tables import Cell, Section, Table


def to_markdown(title: str, summary: list[str], sections: list[Section]) -> str:
    """Returns all sections; only the HTML page has charts.

    Args:
      summary: a sentence, then items of a list.
    """
    parts = [f"# Evaluation: {escaped(title)}", escaped(summary[0])]
    if summary[1:]:
        parts.append("\n".join(f"- {escaped(sentence)}" for sentence in summary[1:]))
    for section in sections:
        parts += [f"## {escaped(section.title)}", *map(escaped, section.paragraphs)]
        if section.charts:
            parts.append("The charts are in `report.html`.")
        parts += [part for table in section.tables for part in (f"**{escaped(table.caption)}**", _table(table))]
    return "\n\n".join(parts) + "\n"


def escaped(value: str) -> str:
    """Returns `value` on one line, escaped so that it is not read as Markdown or HTML."""
    return re.sub(r"[\\`*_\[\]<>|&!#~]", lambda match: f"&#{ord(match[0])};", printable(value))


def _table(table: Table) -> str:
    rows = []
    for group in table.groups:
        if group.heading:
            rows.append([f"**{escaped(group.heading)}**", *[""] * (len(table.header) - 1)])
        rows += [[_with_details(escaped(row.heading), [row.detail]), *map(_cell, row.cells)] for row in group.rows]
    align = "l" + "".join("l" if is_text else "r" for is_text in table.is_text)
    return format_table(list(map(escaped, table.header)), rows, align, is_markdown=True)


def _cell(cell: Cell) -> str:
    value = f"**{escaped(cell.text)}** ★" if cell.is_best else escaped(cell.text)
    return _with_details(value, cell.details)


def _with_details(value: str, details: Iterable[str]) -> str:
    shown = "; ".join(escaped(detail) for detail in details if detail)
    return f"{value} ({shown})" if shown else value
