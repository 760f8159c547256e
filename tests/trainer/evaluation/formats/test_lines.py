"""Lines of UTF-8 files."""

import gzip
import lzma

import pytest

from schemas.errors import UserError
from tests.support.text_files import COMPRESS
from trainer.evaluation.formats.lines import read_lines


def test_ends_of_lines_and_a_byte_order_mark_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo\u2028still two\n\nfour\r\n\n".encode())
    assert read_lines(str(tmp_path / "a.txt")) == ["one", "two\u2028still two", "", "four"]


def test_a_file_at_a_url_is_read():
    import fsspec

    with fsspec.open("memory://labelled/a.txt", "wb") as file:
        file.write(b"one\ntwo")
    assert read_lines("memory://labelled/a.txt") == ["one", "two"]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_is_unpacked(tmp_path, suffix):
    packed = COMPRESS[suffix](b"one\r\ntwo\n")
    (tmp_path / f"a.TSV{suffix.upper()}").write_bytes(packed)
    assert read_lines(str(tmp_path / f"a.TSV{suffix.upper()}")) == ["one", "two"]
    for content in (packed[:-3], b"one"):
        (tmp_path / f"b{suffix}").write_bytes(content)
        with pytest.raises(UserError, match=f"b{suffix}: cannot be read"):
            read_lines(str(tmp_path / f"b{suffix}"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gzip.compress(b"one"),
            "a.txt: looks like gzip, not UTF-8 text; extract its text, or rename it to end in .gz$",
        ),
        (lzma.compress(b"one"), "a.txt: looks like an xz archive, not UTF-8 text; extract its text$"),
        (b"PAR1", "a.txt: looks like Parquet, not UTF-8 text; extract its text$"),
        (b"", "a.txt: is empty"),
        (b" \n\n", "a.txt: is empty"),
        ("the sea sings".encode("utf-16"), "a.txt: looks like UTF-16LE"),
        (b"one\n" * 9 + b"\xff\n" + b"one\n" * 9, "a.txt:10: is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_lines(str(tmp_path / "a.txt"))


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"b\.txt: there is no such file"):
        read_lines(str(tmp_path / "b.txt"))
    with pytest.raises(UserError, match="cannot be read"):
        read_lines(str(tmp_path))
