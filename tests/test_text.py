"""Reading text: however a file is cut, every line comes out once, with its own number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline.text
from pipeline.text import TextFile, find_files, plan_file, read_lines
from schemas.errors import UserError


@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")), max_size=30),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 16),
)
def test_ranges_cover_every_line_once(tmp_path_factory, lines, ends, shard_bytes, block):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    content = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.text, "_BLOCK", block)
        plan = plan_file(TextFile(str(path), "a.txt"), shard_bytes)
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert [pair for part in plan.ranges for pair in read_lines(part)] == list(enumerate(expected))
    assert all(part.end - part.start >= shard_bytes for part in plan.ranges[:-1])


def test_find_files_by_glob_and_by_name(tmp_path):
    for name in ("a/x.txt", "a/y.txt", "b/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one\n")
    assert [file.source for file in find_files("en", [f"{tmp_path}/*/*.txt"])] == ["a/x.txt", "a/y.txt", "b/x.txt"]
    assert [file.source for file in find_files("en", [f"{tmp_path}/a/x.txt"])] == ["x.txt"]
    with pytest.raises(UserError, match="no file matches"):
        find_files("en", [f"{tmp_path}/c.txt"])
    with pytest.raises(UserError, match="both called 'x.txt'"):
        find_files("en", [f"{tmp_path}/a/x.txt", f"{tmp_path}/b/x.txt"])


def test_windows_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    (part,) = plan_file(TextFile(str(tmp_path / "a.txt"), "a.txt"), 100).ranges
    assert list(read_lines(part)) == [(0, b"one"), (1, b"two")]
