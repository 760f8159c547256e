"""Tables, in the format of every command, report and benchmark of the project."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

_ALIGNMENTS = {"l": "left", "r": "right"}


def format_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", is_markdown: bool = False
) -> str:
    """Formats a table of text cells as lines.

    Args:
      align: `l` (left) or `r` (right) for each column; by default left for the first and right for the others.
      is_markdown: makes a Markdown table; otherwise columns are two spaces apart.
    """
    align = align or "l" + "r" * (len(header) - 1)
    text = tabulate(
        [header, *rows],
        # tabulate makes columns wider if it knows about a header.
        headers="firstrow" if is_markdown else (),
        tablefmt="pipe" if is_markdown else "plain",
        colalign=[_ALIGNMENTS[letter] for letter in align],
        disable_numparse=True,
    )
    return "\n".join(line.rstrip() for line in text.splitlines())
