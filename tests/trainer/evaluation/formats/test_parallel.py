"""Parallel files."""

import pytest

from schemas.errors import UserError
from trainer.evaluation.formats.parallel import read_parallel


def read(tmp_path, first: str, second: str):
    (tmp_path / "a.en").write_bytes(first.encode())
    (tmp_path / "a.es").write_bytes(second.encode())
    return read_parallel((str(tmp_path / "a.en"), str(tmp_path / "a.es")))


def test_lines_are_paired(tmp_path):
    assert read(tmp_path, "sea\r\nriver\u2028x\r\n", "mar\nrío") == [("sea", "mar"), ("river\u2028x", "río")]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("sea\nriver\n", "mar\n", r"a.es: has 1 lines, but .*a.en has 2"),
        ("sea\n\nriver\n", "mar\nmar\nmar\n", "a.en:2: is blank"),
        ("sea", "", "a.es: is empty"),
    ],
)
def test_a_fault_is_named_with_its_file(tmp_path, first, second, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, first, second)
