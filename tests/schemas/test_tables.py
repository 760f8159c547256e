"""Tables: every cell is unchanged, and columns are aligned."""

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.tables import format_table

CELL = st.text("abc019.,-%/_", min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=5), st.sampled_from(["", "lrr", "lll", "rrl"]))
def test_cells_are_kept_and_columns_are_straight(rows, align):
    lines = format_table(rows[0], rows[1:], align).splitlines()
    assert [tuple(line.split()) for line in lines] == rows
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for line, row in zip(lines, rows, strict=True):
        naive = [
            cell + " " * (width - len(cell)) if side == "l" else " " * (width - len(cell)) + cell
            for side, cell, width in zip(align or "lrr", row, widths, strict=True)
        ]
        assert line == "  ".join(naive).rstrip()


def test_numbers_and_empty_cells_are_left_as_they_are():
    assert format_table(["", "n"], [["a", "0012"], ["b", ""], ["c", "1e3"]]) == "      n\na  0012\nb\nc   1e3"
    assert format_table(["", "n"], []) == "  n"


def test_markdown():
    assert format_table(["name", "n"], [["a", "12"]], is_markdown=True).splitlines() == [
        "| name   |   n |",
        "|:-------|----:|",
        "| a      |  12 |",
    ]
