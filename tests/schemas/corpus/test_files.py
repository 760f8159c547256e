"""Which files a pattern matches, whatever characters their names contain."""

import os
from functools import partial

import fsspec
import pytest

from schemas.corpus.files import TextFile, find_files
from schemas.corpus.ranges import TextRange
from schemas.corpus.records import read_records
from schemas.errors import UserError


def sources(*patterns) -> list[str]:
    return [file.source for file in find_files("en", [str(pattern) for pattern in patterns])]


@pytest.mark.parametrize("name", ["a[1].txt", "a*.txt", "a?.txt", "A::B.txt", "a b.txt", "[en] corpus/a.txt", "x::y/[z]/a.txt"])  # fmt: skip
def test_a_name_that_exists_is_taken_literally(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("one\n")
    for other in ("a1.txt", "axx.txt"):
        (tmp_path / other).write_text("two\n")
    base = os.path.basename(name)
    assert sources(tmp_path / name) == [base]
    if "/" in name:
        folder = (tmp_path / name).parent
        assert sources(folder) == sources(folder / "*.txt") == [base]
    actual = find_files("en", [f"file://{tmp_path}/{name}"])
    assert [file.url for file in actual] == [str(tmp_path / name)]
    assert [record.text for record in read_records(TextRange.whole(actual[0]))] == ["one"]


def test_colons_in_a_name_on_another_filesystem_are_no_chain():
    fsspec.filesystem("memory").pipe_file("/colons/a::b.txt", b"one\n")
    (file,) = find_files("en", ["memory://colons"])
    assert [record.text for record in read_records(TextRange.whole(file))] == ["one"]


def test_one_file_is_taken_once_however_it_is_spelt(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "link.txt").symlink_to("a.txt")
    monkeypatch.chdir(tmp_path)
    spellings = ["a.txt", "./a.txt", tmp_path / "a.txt", "*.txt", ".", f"file://{tmp_path}/a.txt"]
    assert sources(*spellings) == ["a.txt"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "real/a.txt").write_text("one\n")
    (tmp_path / "real/deep/b.txt").write_text("two\n")
    (tmp_path / "real/deep/loop").symlink_to(tmp_path / "real")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert sources(tmp_path / "link") == ["a.txt", "deep/b.txt"]
    assert sources(tmp_path / "corpus") == ["linked/a.txt", "linked/deep/b.txt"]


def test_names_that_are_no_utf8_are_refused(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt"), "wb") as file:
        file.write(b"one\n")
    with pytest.raises(UserError, match=r"caf\\udce9.txt' is not UTF-8; rename"):
        sources(tmp_path)


def test_a_renewed_signature_is_the_same_file():
    memory = fsspec.filesystem("memory")
    actual = []
    for signature in ("secret", "other"):
        memory.pipe_file(f"/signed/a.txt?sig={signature}", b"one\n")
        (file,) = find_files("en", [f"memory://signed/a.txt?sig={signature}"])
        assert memory.cat_file(file.url) == b"one\n"
        actual.append(file.source)
    assert actual == ["a.txt?sig=***"] * 2


def test_endings_are_looked_for_before_a_query_and_in_any_case():
    file = TextFile("https://h/A.JSONL.GZ?sig=a.parquet", "a")
    assert file.codec == "gzip" and file.is_json_lines and not file.is_parquet
    assert "sig=***" in file.shown


def test_find_files_by_glob_by_name_and_by_folder(tmp_path):
    for name in ("a/x.txt", "a/y.txt", "b/x.txt", "b/.hidden.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one\n")
    names = partial(map, lambda file: file.source)
    assert list(names(find_files("en", [f"{tmp_path}/*/*.txt"]))) == ["a/x.txt", "a/y.txt", "b/x.txt"]
    assert list(names(find_files("en", [f"{tmp_path}/a/x.txt"]))) == ["x.txt"]
    assert list(names(find_files("en", [str(tmp_path)]))) == ["a/x.txt", "a/y.txt", "b/x.txt"]
    assert list(names(find_files("en", [f"file://{tmp_path}/b/"]))) == ["x.txt"]
    with pytest.raises(UserError, match="no file matches"):
        find_files("en", [f"{tmp_path}/c.txt"])
    with pytest.raises(UserError, match="both called 'x.txt'"):
        find_files("en", [f"{tmp_path}/a/x.txt", f"{tmp_path}/b/x.txt"])
