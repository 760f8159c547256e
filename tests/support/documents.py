"""The project's Markdown: its files, its tables and its blocks of code."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: its place, its language, its text, and the reason if it is not run."""

    where: str
    language: str
    code: str
    not_run: str


def blocks(*languages: str) -> list[Block]:
    """Returns all blocks of these languages on all pages."""
    actual = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(2)) + 1
            actual.append(Block(f"{page.relative_to(ROOT)}:{line}", match[2], match[3], match[1] or ""))
    return [block for block in actual if block.language in languages]


def prose(page: Path) -> str:
    """Returns a page without its blocks of code."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def table(page: Path, first_column: str) -> list[dict[str, str]]:
    """Returns the rows, by column, of the table on `page` whose first column has that name."""
    lines = page.read_text(encoding="utf-8").splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    names = _cells(lines[start])
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(names, _cells(line), strict=True)))
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
