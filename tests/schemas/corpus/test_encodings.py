"""Text that is not UTF-8 is refused while planning, with a guess at its encoding; single bad lines are accepted."""

import gzip
import io
import json
import lzma
import sqlite3
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.corpus.encodings import check_text
from schemas.corpus.records import check_beginning
from schemas.errors import UserError
from tests.support.text_files import COMPRESS, records, text_file

RUSSIAN = "река помнит учитель, мой дом и море пишет песню\n" * 40
JAPANESE = "これは日本語のテキストです。カタカナもあります\n" * 40
CHINESE = "我们在这里学习中文，今天天气很好，大家都很高兴\n" * 40
KOREAN = "우리는 여기에서 한국어를 배우고 있습니다\n" * 40
FRENCH = "le garçon a été très étonné, déjà là\n" * 40


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        ("the river\n" * 20, "utf-16", "UTF-16LE"),
        ("the river\n" * 20, "utf-32", "UTF-32LE"),
        *((text, f"utf-16-{end}", f"UTF-16{end.upper()}") for text in ("the river\n" * 20, RUSSIAN, CHINESE) for end in ("le", "be")),
        *((RUSSIAN, f"utf-32-{end}", f"UTF-32{end.upper()}") for end in ("le", "be")),
        (FRENCH, "latin-1", "WINDOWS-1252"),
        (FRENCH, "cp1252", "WINDOWS-1252"),
        (RUSSIAN, "cp1251", "WINDOWS-1251"),
        (RUSSIAN, "koi8-r", "KOI8-R"),
        (JAPANESE, "shift_jis", "SHIFT_JIS"),
        (JAPANESE, "euc-jp", "EUC-JP"),
        (KOREAN, "euc-kr", "EUC-KR"),
        (CHINESE, "gb18030", "GB18030"),
        (JAPANESE, "iso2022-jp", "ISO-2022-JP"),
        (KOREAN, "iso2022-kr", "ISO-2022-KR"),
        *((text, "utf-7", "UTF-7") for text in (RUSSIAN, JAPANESE, CHINESE, KOREAN, FRENCH)),
    ],
)  # fmt: skip
def test_other_encodings_are_named(tmp_path, text, encoding, named, suffix):
    content = text.encode(encoding)
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](content) if suffix else content)
    with pytest.raises(UserError, match=f"looks like {named}, not UTF-8; convert it, e.g. `iconv -f {named} -t UTF-8"):
        check_beginning(text_file(path))


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        *((text, "latin-1", "WINDOWS-1252")
          for text in ("Schöne Grüße\t1\n", "x é y\tpos\n", "Le café est bon\tpos\n" * 3, "voilà \0 le café. là\n")),
        *((text, f"utf-16-{end}", f"UTF-16{end.upper()}")
          for text in ("sea", "река", "一一开\tN\n", "中文。天气", "海\u3000山、川\n") for end in ("le", "be")),
    ],
)  # fmt: skip
def test_short_files_are_named_too(tmp_path, text, encoding, named):
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match=f"looks like {named}, not UTF-8"):
        check_beginning(text_file(tmp_path / "a.txt"))


@example("é\nà\n")
@given(st.text(st.sampled_from(" \t\n.," + "".join(map(chr, [*range(0x30, 0x7F), *range(0xA0, 0xFE)]))), min_size=4))
def test_latin1_is_never_taken_for_utf16(text):
    try:
        check_text("a.txt", text.encode("latin-1"), ())
    except UserError as error:
        assert "UTF-16" not in str(error) and "UTF-32" not in str(error)


def _binary(kind: str, folder) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.txt", "the river")
    elif kind == "SQLite":
        database = sqlite3.connect(folder / "a.db")
        database.execute("create table a (b text)")
        database.close()
        return (folder / "a.db").read_bytes()
    elif kind == "gzip":
        return gzip.compress(b"the river")
    elif kind == "xz":
        return lzma.compress(b"the river")
    elif kind == "Parquet":
        pq.write_table(pa.table({"text": ["the river"]}), buffer)
    elif kind == "PDF":
        return b"%PDF-1.7\n1 0 obj\n"
    else:
        return bytes(range(256)) * 8
    return buffer.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        "1+1=2, a+b-c",
        "C++-code and +word- in it",
        "call +420-123-456 or +18005551234-",
        "+CRM- +SEO- +ABC-",
        "dGhl+cmFpbg==",
    ],
)
def test_pluses_in_ascii_are_not_taken_for_utf7(tmp_path, line):
    (tmp_path / "a.txt").write_text(f"{line}\n" * 40)
    assert [record.text for record in records(tmp_path / "a.txt", 100)] == [line] * 40


@pytest.mark.parametrize(
    ("kind", "mend"),
    [
        *((kind, "extract its text$") for kind in ("zip", "SQLite", "PDF", "xz", "binary")),
        ("gzip", "rename it to end in .gz$"),
        ("Parquet", "rename it to end in .parquet$"),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path, kind, mend):
    (tmp_path / "a.txt").write_bytes(_binary(kind, tmp_path))
    with pytest.raises(UserError, match=f"a.txt: looks like .*{kind}.*{mend}"):
        check_beginning(text_file(tmp_path / "a.txt"))


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_archive_is_refused(tmp_path, tar_format, suffix):
    buffer = io.BytesIO()
    member = tarfile.TarInfo("wiki.txt")
    member.size = len(RUSSIAN.encode() * 20)
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        archive.addfile(member, io.BytesIO(RUSSIAN.encode() * 20))
    content = buffer.getvalue()
    (tmp_path / f"a.tar{suffix}").write_bytes(COMPRESS[suffix](content) if suffix else content)
    with pytest.raises(UserError, match="looks like a tar archive, not UTF-8 text; extract its text$"):
        check_beginning(text_file(tmp_path / f"a.tar{suffix}"))


ARTICLE = json.dumps({"id": "12", "title": "River", "text": "the river"})
LONG_ARTICLE = json.dumps({"id": "12", "text": "река " * 10_000})


@pytest.mark.parametrize("name", ["wiki_00", "wiki_00.gz", "a.txt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{ARTICLE}\n{ARTICLE}\n", "a JSON object on every line, not plain text; let its name end in .jsonl"),
        (f"\ufeff{ARTICLE}\n\n{ARTICLE}", "a JSON object on every line"),
        (f"{ARTICLE}\n{LONG_ARTICLE}", "a JSON object on every line"),
        (LONG_ARTICLE, "a JSON object on every line"),
        ("<mediawiki xmlns='http://www.mediawiki.org/xml/export-0.11/'>\n<page>", "looks like XML, .*extract its text"),
        ('<?xml version="1.0"?>\n<tmx version="1.4">\n', "looks like XML, not plain text"),
        ('<doc id="12" url="https://w?curid=12" title="A">\nA\n', "WikiExtractor's <doc> markup, .*--json"),
    ],
    ids=["JSON lines", "BOM, empty line", "cut line", "one long line", "MediaWiki", "XML", "WikiExtractor"],
)
def test_markup_in_a_file_of_plain_text_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    with pytest.raises(UserError, match=message):
        check_beginning(text_file(tmp_path / name))


@pytest.mark.parametrize(
    "content",
    [
        ARTICLE,
        "\n" * 10_000,
        f"{ARTICLE}\nis one JSON object\n",
        f"The river:\n{ARTICLE}\n{ARTICLE}\n",
        '["a", "b"]\n["c"]\n',
        "{a}\n{b}\n",
        '{"a"}' + " river" * 10_000,
        '<?xml version="1.0"?> begins every XML file\n',
        "<mediawiki> is a tag\n",
        '<doc id="1"> is a tag\n',
        "x" * 257 + "ustar  " + "\nthe river",
    ],
)
def test_plain_text_about_markup_is_text(tmp_path, content):
    (tmp_path / "a.txt").write_text(content)
    check_beginning(text_file(tmp_path / "a.txt"))


def test_markup_in_a_json_field_is_text(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{ARTICLE}\n{ARTICLE}\n")
    check_beginning(text_file(tmp_path / "a.jsonl"))


def test_single_bad_lines_and_nul_bytes_are_only_rejected(tmp_path):
    lines = [b"the river"] * 90 + [b"caf\xe9"] * 10 + ["река \0 море 我".encode()] * 20
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    faults = [record.fault for record in records(tmp_path / "a.txt", 64)]
    assert faults == [""] * 90 + ["invalid UTF-8"] * 10 + [""] * 20


@pytest.mark.parametrize("lines", [[b"x" * 70_000, "我".encode() * 30_000], ["é".encode() * 40_000]])
def test_a_head_that_ends_within_a_character(tmp_path, lines):
    (tmp_path / "a.txt").write_bytes(b"\n".join(b"a" + line for line in lines))
    assert [record.fault for record in records(tmp_path / "a.txt", 1000)] == [""] * len(lines)


@pytest.mark.parametrize("shard_bytes", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("name", ["a.txt", "A.TXT.GZ", "a.zst", "a.jsonl", "a.JSONL.gz"])
def test_a_byte_order_mark_is_dropped(tmp_path, name, shard_bytes):
    lines = ['{"text": "one"}', '{"text": "two"}'] if "json" in name.lower() else ["one", "two"]
    content = b"\xef\xbb\xbf" + "\n".join(lines).encode()
    suffix = name[name.rindex(".") :].lower()
    (tmp_path / name).write_bytes(COMPRESS[suffix](content) if suffix in COMPRESS else content)
    assert [(record.text, record.fault) for record in records(tmp_path / name, shard_bytes)] == [
        ("one", ""),
        ("two", ""),
    ]


@pytest.mark.parametrize("content", ['[{"text": "one"}]', '[\n {"text": "one"}\n]'])
def test_a_json_array_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a.json: is one JSON array, .*`jq -c"):
        check_beginning(text_file(tmp_path / "a.json"))


TEXTS = ["one", None, "три", "one", ""]
KINDS = [
    *(kind() for kind in (pa.string, pa.large_string, pa.string_view, pa.binary, pa.large_binary, pa.binary_view)),
    *(pa.dictionary(index, pa.string()) for index in (pa.int8(), pa.int32(), pa.int64(), pa.uint16())),
    pa.dictionary(pa.int32(), pa.large_string()),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("stores_schema", [True, False])
def test_parquet_strings_of_every_kind(tmp_path, kind, stores_schema):
    values = TEXTS if "binary" not in str(kind) else [text and text.encode() for text in TEXTS]
    if pa.types.is_dictionary(kind):
        column = pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    else:
        column = pa.array(values, kind)
    path = tmp_path / "A.Parquet"
    pq.write_table(pa.table({"n": range(5), "text": column}), path, row_group_size=3, store_schema=stores_schema)
    expected = [("A.Parquet", n, text or "", "" if text else "empty") for n, text in enumerate(TEXTS)]
    assert records(path, 1) == records(path, 100) == expected


def test_a_parquet_column_named_twice_or_nested_is_refused(tmp_path):
    column = pa.array(["one"])
    pq.write_table(pa.Table.from_arrays([column, column], names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has 2 columns called 'text'"):
        check_beginning(text_file(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"text": [{"a": "one"}], "b": [["one"]]}), tmp_path / "b.parquet")
    for field in ("text", "b"):
        with pytest.raises(UserError, match=f"'{field}' is a column of .*, not of strings"):
            check_beginning(text_file(tmp_path / "b.parquet", field))
