"""Tables, in the one form that every command, report and benchmark of the project prints."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

_ALIGNMENTS = {"l": "left", "r": "right"}


def format_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", is_markdown: bool = False
) -> str:
    """A table of cells that are text already, as lines.

    Args:
      align: `l` (left) or `r` (right) for each column; by default the first is on the left and the others on the right.
      is_markdown: with the bars of a Markdown table; otherwise columns are two spaces apart.
    """
    align = align or "l" + "r" * (len(header) - 1)
    text = tabulate(
        [header, *rows],
        # tabulate makes columns wider where it knows of a header.
        headers="firstrow" if is_markdown else (),
        tablefmt="pipe" if is_markdown else "plain",
        colalign=[_ALIGNMENTS[letter] for letter in align],
        disable_numparse=True,
    )
    return "\n".join(line.rstrip() for line in text.splitlines())
