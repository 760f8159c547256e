"""Reading text: however a file is cut, every record comes out once, with its own number."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas.corpus.records
from pipeline.config import PipelineConfig
from pipeline.job.plan import plan_text
from schemas.corpus.records import read_records
from schemas.errors import UserError
from tests.support.commands import run_python
from tests.support.text_files import COMPRESS, plan, records


def expected(content: bytes) -> list[tuple[int, str, str]]:
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [(n, line.decode(), "" if line.strip() else "empty") for n, line in enumerate(lines)]


@pytest.mark.heavy
@settings(deadline=None)
@given(
    st.lists(st.text("ab ж", max_size=12).map(str.encode), max_size=30),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 16),
    st.sampled_from(["", *COMPRESS]),
)
def test_ranges_cover_every_line_once(tmp_path_factory, lines, ends, shard_bytes, block, suffix):
    path = tmp_path_factory.mktemp("text") / f"a.txt{suffix}"
    content = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    half = len(content) // 2
    path.write_bytes(COMPRESS[suffix](content[:half]) + COMPRESS[suffix](content[half:]) if suffix else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemas.corpus.records, "_BLOCK", block)
        found = plan(path, shard_bytes)
        assert records(found) == expected(content)
        # In any order too, which a compressed stream cannot go back for.
        backwards = [[tuple(record) for record in read_records(part)] for part in reversed(found.ranges)]
    assert sum(reversed(backwards), []) == expected(content)
    longest = max((len(line) for line in lines), default=0) + 1
    assert all(part.size < shard_bytes + longest for part in found.ranges)
    assert sum(part.records for part in found.ranges) == len(expected(content))


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
    found = records(plan(path, shard_bytes, "body"))
    assert [number for number, _, _ in found] == list(range(len(texts)))
    assert [text for _, text, _ in found] == [text or "" for text in texts]
    assert [fault for _, _, fault in found] == ["" if text and not text.isspace() else "empty" for text in texts]


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
    assert records(plan(tmp_path / name, 30)) == [
        (0, "one\ntwo", ""),
        (1, "", "empty"),
        (2, "", "invalid JSON"),
        (3, "", "no text in 'text'"),
        (4, "", "invalid UTF-8"),
        (5, "", "invalid UTF-8"),
        (6, "", "no text in 'text'"),
        (7, "три", ""),
        (8, "", "invalid JSON"),
    ]


def test_windows_line_ends_and_broken_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\n\xfftwo\r\n")
    assert records(plan(tmp_path / "a.txt", 100)) == [(0, "one", ""), (1, "", "invalid UTF-8")]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_truncated_file_is_named_before_any_work(tmp_path, suffix):
    content = COMPRESS[suffix]("\n".join(map(str, range(5000))).encode())
    (tmp_path / f"a.txt{suffix}").write_bytes(content[:-20])
    with pytest.raises(UserError, match=f"a.txt{suffix}: cannot be read"):
        plan(tmp_path / f"a.txt{suffix}", 1000)


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "PLAIN"])
def test_parquet_without_a_dictionary(tmp_path, encoding):
    texts = [f"the same beginning {number % 7}" for number in range(100)]
    table = pa.table({"n": range(100), "text": texts})
    path = tmp_path / "a.parquet"
    pq.write_table(
        table, path, row_group_size=30, use_dictionary=False, column_encoding={"text": encoding, "n": "PLAIN"}
    )
    assert records(plan(path, 200)) == [(number, text, "") for number, text in enumerate(texts)]


@pytest.mark.heavy
def test_a_parquet_page_that_would_fill_the_memory_is_refused(tmp_path):
    value = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(["x" * (2**28 + 1)]))
    pq.write_table(pa.table({"text": value}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(
        UserError, match=r"a.parquet: row group 0 unpacks from [\d,]+ to 268,\d+,\d+ bytes, which is no"
    ):
        plan(tmp_path / "a.parquet", 100)


def test_parquet_without_the_column(tmp_path):
    pq.write_table(pa.table({"n": [1], "body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="'text' is no such column; name one in `field`: n, body"):
        plan(tmp_path / "a.parquet", 100)
    with pytest.raises(UserError, match="'n' is a column of int64, not of strings"):
        plan(tmp_path / "a.parquet", 100, "n")
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="b.parquet: cannot be read"):
        plan(tmp_path / "b.parquet", 100)


def test_a_parquet_file_that_shrinks_during_the_run_is_noticed(tmp_path):
    write = lambda rows: pq.write_table(pa.table({"text": ["x"] * rows}), tmp_path / "a.parquet", row_group_size=10)  # noqa: E731
    write(40)
    last = plan(tmp_path / "a.parquet", 1, "text").ranges[-1]
    write(20)
    with pytest.raises(UserError, match="changed since the run began"):
        list(read_records(last))


def test_a_file_that_changes_during_the_run_is_noticed(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    found = plan(tmp_path / "a.txt", 100)
    (tmp_path / "a.txt").write_text("onetwo\nthree..\n")
    with pytest.raises(UserError, match="changed since the run began"):
        records(found)


def test_the_fingerprint_is_of_the_content(tmp_path):
    content = "".join(f"line {n}\n" for n in range(50)).encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt").write_bytes(content)
    (tmp_path / "c.txt").write_bytes(content[:-2] + b"!\n")
    one, same, other = (plan(tmp_path / name, 64).sha256 for name in ("a.txt", "b.txt", "c.txt"))
    assert one == same != other


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESS if suffix])
def test_a_decompressor_reads_ranges_in_any_order_and_opens_a_file_again_only_to_go_back(tmp_path, monkeypatch, suffix):
    content = b"".join(b"line %d\n" % number for number in range(100))
    (tmp_path / f"a.txt{suffix}").write_bytes(COMPRESS[suffix](content))
    parts = plan(tmp_path / f"a.txt{suffix}", 50).ranges
    opened = []
    _open = schemas.corpus.records._open
    monkeypatch.setattr(schemas.corpus.records, "_open", lambda file: opened.append(file) or _open(file))
    decompressor = schemas.corpus.records.Decompressor()
    for order, most in ((range(len(parts)), 1), (range(1, len(parts), 3), 2), ([5, 5, 2, 2, 9], 6)):
        for index in order:
            part = parts[index]
            assert b"".join(decompressor.read(part)) == content[part.start : part.end]
        assert len(opened) == most
    # A range that is read in part, as for a sample, leaves the stream where it stopped.
    next(iter(decompressor.read(parts[10])))
    assert b"".join(decompressor.read(parts[11])) == content[parts[11].start : parts[11].end]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_long_records_are_rejected_and_the_others_kept(tmp_path, pipeline_settings, name):
    import gzip

    lines = ["one", "x" * 101, "y" * 100 + "\r", "two", "z" * 5000]
    if "json" in name:
        lines = [json.dumps({"text": line.strip()}) for line in lines]
    content = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    settings = pipeline_settings(tmp_path / "p", shard_bytes=50, max_record_bytes=100 + 12 * ("json" in name))
    settings["text"]["en"] = [str(tmp_path / name)]
    (found,) = plan_text(PipelineConfig.model_validate(settings))["en"].values()
    faults = [r.fault for part in found.ranges for r in read_records(part, settings["max_record_bytes"])]
    assert faults == ["", "too long", "", "", "too long"]


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["txt.gz", "parquet"])
def test_memory_is_bounded_whatever_a_small_file_says(tmp_path, kind):
    """512 MiB without a line end, and 2 GB of strings in a few hundred bytes."""
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
        "import sys, resource; from pathlib import Path; from tests.support.text_files import plan, records;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "found = records(plan(Path(sys.argv[1]), 2**22));"
        "print(len(found), {fault for _, _, fault in found}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = run_python("-c", program, tmp_path / f"a.{kind}")
    assert done.returncode == 0, done.stderr
    count, *_, grown = done.stdout.split()
    assert int(count) == (400 if kind == "parquet" else 1) and "{'too long'}" in done.stdout
    assert int(grown) * 1024 < 200 * 2**20
