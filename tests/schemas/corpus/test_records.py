"""Reading text: however a file is cut, every record is read once, and its number is the place where it starts."""

import io
import json
import os
import random
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas.corpus.lines
from schemas.corpus.files import ChangedFileError, find_files
from schemas.corpus.ranges import TextRange
from schemas.corpus.records import are_taken, check_beginning, count_records, read_records
from schemas.corpus.survey import survey_file
from schemas.errors import UserError
from tests.support.commands import run_python
from tests.support.counted import bytes_read, put
from tests.support.text_files import COMPRESS, cut, records, text_file


def expected(content: bytes) -> list[tuple[int, str, str]]:
    """The place, text and fault of every line."""
    lines = content.split(b"\n")
    starts = accumulate((len(line) + 1 for line in lines), initial=0)
    if lines[-1] == b"":
        lines.pop()
    return [(start, line.decode(), "" if line.strip() else "empty") for start, line in zip(starts, lines, strict=False)]


def without_source(actual) -> list[tuple[int, str, str]]:
    return [tuple(record[1:]) for record in actual]


@pytest.mark.heavy
@settings(deadline=None)
@given(
    st.lists(st.text("ab ж", max_size=12).map(str.encode), max_size=30),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 16),
    st.integers(1, 16),
    st.sampled_from(["", *COMPRESS]),
)
def test_ranges_cover_every_line_once(tmp_path_factory, lines, ends, size, block, beyond, suffix):
    path = tmp_path_factory.mktemp("text") / f"a.txt{suffix}"
    content = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    half = len(content) // 2
    path.write_bytes(COMPRESS[suffix](content[:half]) + COMPRESS[suffix](content[half:]) if suffix else content)
    file = text_file(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemas.corpus.lines, "BLOCK", block)
        patch.setattr(schemas.corpus.lines, "_BEYOND", beyond)
        parts = cut(file, size) if file.size else []
        of_parts = [list(read_records(part)) for part in parts]
        assert without_source(sum(of_parts, [])) == expected(content)
        counted = list(count_records(parts))
    assert counted == [len(part) for part in of_parts]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 20), st.integers(1, 12))
def test_long_lines_are_found_wherever_they_are_cut(tmp_path_factory, lengths, size, most):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(b"\n".join(b"x" * length for length in lengths))
    starts = list(accumulate((length + 1 for length in lengths), initial=0))
    wanted = [
        (start, "too long" if length > most else "" if length else "empty")
        for start, length in zip(starts, lengths, strict=False)
    ]
    if not lengths[-1]:
        wanted.pop()
    actual = records(path, size, max_record_bytes=most) if path.stat().st_size else []
    assert [(record.number, record.fault) for record in actual] == wanted


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=40),
    st.integers(1, 60),
    st.integers(1, 12),
    st.booleans(),
)
def test_parquet(tmp_path_factory, texts, shard_bytes, group, large):
    path = tmp_path_factory.mktemp("text") / "a.parquet"
    kind = pa.large_string() if large else pa.string()
    pq.write_table(pa.table({"n": range(len(texts)), "body": pa.array(texts, kind)}), path, row_group_size=group)
    actual = without_source(records(path, shard_bytes, "body"))
    assert [number for number, _, _ in actual] == list(range(len(texts)))
    assert [text for _, text, _ in actual] == [text or "" for text in texts]
    counted = count_records(cut(text_file(path, "body"), shard_bytes))
    assert sum(counted) == len(texts)
    assert [fault for _, _, fault in actual] == ["" if text and not text.isspace() else "empty" for text in texts]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson.gz", "a.jsonl.zst"])
def test_json_lines(tmp_path, name):
    lines = [
        json.dumps({"text": "one\ntwo", "id": 1}).encode(),
        b"",
        b"{broken",
        json.dumps({"other": "x"}).encode(),
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'["text"]',
        json.dumps({"text": "три"}).encode(),
        b"[" * 100_000,
    ]
    content = b"\n".join(lines)
    suffix = name[name.rindex(".") :]
    (tmp_path / name).write_bytes(COMPRESS[suffix](content) if suffix in COMPRESS else content)
    actual = without_source(records(tmp_path / name, 30))
    assert [number for number, _, _ in actual] == list(accumulate((len(line) + 1 for line in lines[:-1]), initial=0))
    assert [record[1:] for record in actual] == [
        ("one\ntwo", ""),
        ("", "empty"),
        ("", "invalid JSON"),
        ("", "no text in 'text'"),
        ("", "invalid UTF-8"),
        ("", "invalid UTF-8"),
        ("", "no text in 'text'"),
        ("три", ""),
        ("", "invalid JSON"),
    ]


def test_windows_line_ends_and_broken_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\n\xfftwo\r\n")
    assert without_source(records(tmp_path / "a.txt", 100)) == [(0, "one", ""), (5, "", "invalid UTF-8")]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")
    assert without_source(records(tmp_path / "a.txt", 100)) == [(0, "one", ""), (7, "\ufefftwo", "")]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_truncated_file_is_named(tmp_path, suffix):
    content = COMPRESS[suffix]("\n".join(map(str, range(5000))).encode())
    (tmp_path / f"a.txt{suffix}").write_bytes(content[:-20])
    file = text_file(tmp_path / f"a.txt{suffix}")
    with pytest.raises(UserError, match=f"a.txt{suffix}: cannot be read"):
        survey_file(file, [TextRange.whole(file)])
    with pytest.raises(UserError, match=f"a.txt{suffix}: cannot be read"):
        list(read_records(TextRange.whole(file)))


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_parquet_without_a_dictionary(tmp_path, encoding):
    texts = [f"the same beginning {number % 7}" for number in range(100)]
    table = pa.table({"n": range(100), "text": texts})
    path = tmp_path / "a.parquet"
    pq.write_table(
        table, path, row_group_size=30, use_dictionary=False, column_encoding={"text": encoding, "n": "PLAIN"}
    )
    assert without_source(records(path, 200)) == [(number, text, "") for number, text in enumerate(texts)]


@pytest.mark.heavy
def test_a_parquet_page_that_would_fill_the_memory_is_refused(tmp_path):
    value = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(["x" * (2**28 + 1)]))
    pq.write_table(pa.table({"text": value}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(UserError, match=r"a.parquet: row group 0 unpacks from [\d,]+ to 268,\d+,\d+ bytes, too many"):
        check_beginning(text_file(tmp_path / "a.parquet"))


def test_parquet_without_the_column(tmp_path):
    pq.write_table(pa.table({"n": [1], "body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="'text' is no such column; name one in `field`: n, body"):
        check_beginning(text_file(tmp_path / "a.parquet"))
    with pytest.raises(UserError, match="'n' is a column of int64, not of strings"):
        check_beginning(text_file(tmp_path / "a.parquet", "n"))
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="b.parquet: cannot be read"):
        check_beginning(text_file(tmp_path / "b.parquet"))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.parquet"])
def test_a_file_that_is_replaced_during_the_run_is_named(tmp_path, name):
    def write(text: str) -> None:
        if name.endswith("parquet"):
            pq.write_table(pa.table({"text": text.split()}), tmp_path / name)
        else:
            content = text.encode()
            (tmp_path / name).write_bytes(COMPRESS[".gz"](content) if name.endswith("gz") else content)

    write("one\ntwo\nthree\n")
    file = text_file(tmp_path / name)
    (part,) = cut(file, 2**20)
    assert [record.text for record in read_records(part)] == ["one", "two", "three"]
    write("eno\ntwo\nthree\n")
    # The length is the same, and only the time differs.
    os.utime(tmp_path / name, ns=(1, 1))
    with pytest.raises(UserError, match=f"{name}: changed since the run began; start again with a new output"):
        list(read_records(part))
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{name}: cannot be read"):
        list(read_records(part))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.parquet"])
def test_a_file_that_is_damaged_during_the_run_has_changed(tmp_path, name):
    """The reader of the format may fail on the changed content; the error still says that the file changed."""
    if name.endswith("parquet"):
        pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(COMPRESS[".gz"](b"one\ntwo\n") if name.endswith("gz") else b"one\ntwo\n")
    file = text_file(tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:5])
    with pytest.raises(ChangedFileError, match=f"{name}: changed since the run began"):
        list(read_records(TextRange.whole(file)))


def test_the_fingerprint_of_a_local_file_is_of_its_content(tmp_path):
    content = "".join(f"line {n}\n" for n in range(50)).encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_bytes(content)
    (tmp_path / "c.txt").write_bytes(content[:-2] + b"!\n")
    one, same, other = (survey_file(text_file(tmp_path / name), []).fingerprint for name in ("a.txt", "b.txt", "c.txt"))
    assert one == same != other


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_long_records_are_rejected_and_the_others_kept(tmp_path, name):
    lines = ["one", "x" * 101, "y" * 100 + "\r", "two", "z" * 5000]
    if "json" in name:
        lines = [json.dumps({"text": line.strip()}) for line in lines]
    content = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(COMPRESS[".gz"](content) if name.endswith("gz") else content)
    actual = records(tmp_path / name, 50, max_record_bytes=100 + 12 * ("json" in name))
    assert [record.fault for record in actual] == ["", "too long", "", "", "too long"]


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["txt.gz", "parquet"])
def test_memory_is_bounded_whatever_a_small_file_says(tmp_path, kind):
    """The files hold 512 MiB without a line end, and 2 GB of strings in a few hundred bytes."""
    if kind == "parquet":
        value = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), pa.array(["x" * (5 * 2**20)]))
        pq.write_table(pa.table({"text": value}), tmp_path / "a.parquet", compression="zstd")
    else:
        import zlib

        pack = zlib.compressobj(1, wbits=31)
        with (tmp_path / "a.txt.gz").open("wb") as file:
            for _ in range(128):
                file.write(pack.compress(b"x" * 2**22))
            file.write(pack.flush())
    program = (
        "import sys, resource; from pathlib import Path; from tests.support.text_files import records;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "found = records(Path(sys.argv[1]), 2**22);"
        "print(len(found), {record.fault for record in found}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = run_python("-c", program, tmp_path / f"a.{kind}")
    assert done.returncode == 0, done.stderr
    count, *_, grown = done.stdout.split()
    assert int(count) == (400 if kind == "parquet" else 1) and "{'too long'}" in done.stdout
    assert int(grown) * 1024 < 200 * 2**20


@given(st.integers(0, 10**12), st.integers(1, 60), st.integers(1, 10**12), st.integers(0, 10**12))
def test_evenly_spread_records_whatever_their_numbers(first, records, count, more):
    """The product of two such numbers may not fit in 64 bits."""
    total = count + more
    expected = [(n + 1) * count // total > n * count // total for n in range(first, first + records)]
    assert are_taken(first, records, count, total).tolist() == expected


@pytest.mark.parametrize("suffix", ["", *COMPRESS, ".parquet"])
def test_of_a_beginning_64_kib_are_read(suffix):
    """This holds for remote storage, whatever its caches would read ahead."""
    source = random.Random(0)
    lines = ["".join(source.choices("abcdefgh ", k=100)) for _ in range(200_000)]
    content = "\n".join(lines).encode()
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": lines}), sink := io.BytesIO())
        content = sink.getvalue()
    elif suffix:
        content = COMPRESS[suffix](content)
    (file,) = find_files("en", [put(f"beginnings/a{suffix}", content)])
    assert file.size > 2**22
    bytes_read()
    check_beginning(file)
    assert 0 < bytes_read() <= 2**16


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("lines", [100, 200_000])
def test_another_encoding_is_seen_in_a_compressed_beginning(suffix, lines):
    source = random.Random(0)
    text = "\n".join("".join(source.choices("абвгдежз ", k=100)) for _ in range(lines))
    (file,) = find_files("ru", [put(f"encodings/{lines}{suffix}", COMPRESS[suffix](text.encode("cp1251")))])
    with pytest.raises(UserError, match="looks like WINDOWS-1251"):
        check_beginning(file)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_small_compressed_file_that_is_cut_is_refused(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESS[suffix](b"one\n" * 5000)[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        check_beginning(text_file(path))
