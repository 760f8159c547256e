"""Tables and sections, the source of both Markdown and HTML."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      details: lines of small text below it.
      is_best: whether it is marked.
      level: 0 to 1, the colour in a heat map; None if it has none.
      is_text: whether it is aligned left; numbers are aligned right.
    """

    text: str
    details: tuple[str, ...] = ()
    is_best: bool = False
    level: float | None = None
    is_text: bool = False


NOTHING = Cell("–")


def number(
    value: float | None,
    form: str = "{:.3f}",
    *,
    details: Iterable[str] = (),
    is_best: bool = False,
    level: float | None = None,
) -> Cell:
    """Returns a cell with a number, or with a dash if there is none; empty details are left out."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return Cell(formatted(value, form), tuple(filter(None, details)), is_best, level)


def formatted(value: float, form: str = "{:.3f}") -> str:
    """Returns the formatted number with a true minus sign."""
    return form.format(value).replace("-", "\N{MINUS SIGN}")


def interval(low: float | None, high: float | None, form: str = "{:.3f}") -> str:
    """Returns the two ends of an interval as text; empty if one is missing or not finite."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{formatted(low, form)} to {formatted(high, form)}"


def counted(count: int, noun: str) -> str:
    """Returns a count with its noun, such as "1,200 records"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def text(value: str, details: Iterable[str] = ()) -> Cell:
    """A cell with text; empty details are left out."""
    return Cell(value, tuple(filter(None, details)), is_text=True)


@dataclass(frozen=True)
class Row:
    """A row, whose first cell is its heading; `detail` is the small text below the heading."""

    heading: str
    cells: list[Cell]
    detail: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under a common heading, which may be empty."""

    heading: str
    rows: list[Row]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      header: the title of the row headings first, then those of the columns of cells.
      repeats_header: whether the page repeats the titles of the columns above each group, because there are too many rows
        to see the header beside all of them.
    """

    caption: str
    header: list[str]
    groups: list[Group]
    repeats_header: bool = False

    @property
    def is_heat_map(self) -> bool:
        """Whether its cells are coloured."""
        return any(cell.level is not None for group in self.groups for row in group.rows for cell in row.cells)

    @property
    def is_text(self) -> list[bool]:
        """Whether each column of cells holds text."""
        rows = [row for group in self.groups for row in group.rows]
        return [any(row.cells[column].is_text for row in rows) for column in range(len(self.header) - 1)]


@dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
      key: unique in the report.
      paragraphs: plain text.
      charts: the title of each, and the chart as SVG.
    """

    key: str
    title: str
    paragraphs: list[str]
    tables: list[Table] = field(default_factory=list)
    charts: list[tuple[str, str]] = field(default_factory=list)
