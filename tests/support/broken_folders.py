"""Folders of predictions broken by disks, mistakes or attackers: seeded, one fault in each copy.

Some faults change nothing that is read. `tests.support.damage` has resealed damage, which only the values reveal.
"""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.file_table import FILES_FILE
from schemas.manifest import DEFAULT_TOKENIZER, MANIFEST_FILE, TEACHER_TOKENIZERS
from schemas.rows import ROW_SCHEMA
from schemas.vocabulary import VOCABULARY_FILE

_IDS = [-(2**31), -6000, -2, -1, 0, 1, 3, 4, 24, 64, 10**5, 2**31 - 1]
_LOGPROBS = [5.0, 1.0, 0.01, -0.0, -0.5, -70000.0, float("nan"), float("inf"), float("-inf")]
_JSON = [None, True, -1, 0, 1, 1.5, 10**30, "", "x", "../../../x", "\x1b[31m", "x" * 10_000, [], [1], {}, {"a": 1}]
_TEXTS = ["", "x", "../../../x", "a/b", "/etc/x", "a\nb", "\x1b[2J", "x" * 1000]
_ROLES = ["pad", "unknown", "start", "end", "mask", "word", "continuation", "literal", "", "x"]


def break_folder(folder: Path, other: Path, source: random.Random) -> str:
    """Breaks `folder`, a copy of predictions, in one way; returns a description.

    Args:
      other: another run's folder, over the same vocabulary, with files of the same names.
    """
    kind = source.choice(list(_KINDS))
    return f"{kind}: {_KINDS[kind](folder, other, source)}"


def _rows_file(folder: Path, source: random.Random) -> Path:
    return source.choice(sorted(folder.glob("*/*/*.parquet")))


def _files(folder: Path, source: random.Random) -> list[Path]:
    """Returns a file of rows, the vocabulary, the list of files, and the manifest."""
    return [_rows_file(folder, source), *(folder / name for name in (VOCABULARY_FILE, FILES_FILE, MANIFEST_FILE))]


def _rewrite(path: Path, change: Callable[[pa.Table], pa.Table], **options) -> None:
    """Writes a changed table, keeping the footer's metadata and the row groups."""
    with pq.ParquetFile(path) as parquet:
        table, rows = parquet.read(), max(1, parquet.metadata.row_group(0).num_rows)
    metadata = table.schema.metadata
    pq.write_table(change(table).replace_schema_metadata(metadata), path, **{"row_group_size": rows} | options)


def _set_column(table: pa.Table, name: str, values: list, kind: pa.DataType | None = None) -> pa.Table:
    place = table.schema.get_field_index(name)
    kind = kind or table.schema.field(name).type
    return table.set_column(place, pa.field(name, kind), pa.array(values, kind))


def _any_value(name: str, source: random.Random):
    return source.choice(_LOGPROBS if "logprob" in name else _IDS)


def _value(folder: Path, _: Path, source: random.Random) -> str:
    path, name = _rows_file(folder, source), source.choice(ROW_SCHEMA.names[3:])

    def change(table: pa.Table) -> pa.Table:
        rows = table[name].to_pylist()
        row = source.choice([row for row in rows if row])
        row[source.randrange(len(row))] = _any_value(name, source)
        return _set_column(table, name, rows)

    _rewrite(path, change)
    return f"{path.name}, {name}"


def _list(folder: Path, _: Path, source: random.Random) -> str:
    path, name = _rows_file(folder, source), source.choice(ROW_SCHEMA.names[3:])

    def change(table: pa.Table) -> pa.Table:
        rows = table[name].to_pylist()
        row = source.randrange(len(rows))
        values = rows[row]
        rows[row] = source.choice(
            [
                [],
                values[:-1],
                [*values, _any_value(name, source)],
                values[::-1],
                values * 50,
                source.sample(values, len(values)),
                None,
                [None, *values[1:]],
                rows[(row + 1) % len(rows)],
            ]
        )
        return _set_column(table, name, rows)

    _rewrite(path, change)
    return f"{path.name}, {name}"


def _text_cell(folder: Path, _: Path, source: random.Random) -> str:
    path, name = _rows_file(folder, source), source.choice(ROW_SCHEMA.names[:3])

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[source.randrange(len(values))] = source.choice([None, "x", "../x", "ru", "hi", "hi-bpe"])
        return _set_column(table, name, values)

    _rewrite(path, change)
    return f"{path.name}, {name}"


def _type(folder: Path, _: Path, source: random.Random) -> str:
    path, name = _rows_file(folder, source), source.choice(ROW_SCHEMA.names[3:])
    kinds = [
        pa.list_(pa.int64()),
        pa.list_(pa.float64()),
        pa.large_list(pa.int32()),
        pa.list_(pa.string()),
        pa.string(),
    ]

    def change(table: pa.Table) -> pa.Table:
        kind = source.choice(kinds)
        rows = table[name].to_pylist()
        convert = {pa.string(): str, pa.list_(pa.string()): lambda row: [str(value) for value in row]}
        if kind in (pa.list_(pa.int64()), pa.large_list(pa.int32())):
            convert[kind] = lambda row: [int(value) for value in row]
        return _set_column(table, name, [convert.get(kind, list)(row) for row in rows], kind)

    _rewrite(path, change)
    return f"{path.name}, {name}"


def _columns(folder: Path, _: Path, source: random.Random) -> str:
    path, name = _rows_file(folder, source), source.choice(ROW_SCHEMA.names)

    def change(table: pa.Table) -> pa.Table:
        what = source.randrange(4)
        if what == 0:
            return table.drop_columns([name])
        if what == 1:
            return table.rename_columns([f"{n}2" if n == name else n for n in table.column_names])
        if what == 2:
            return table.append_column(name, table[name])
        return table.select(source.sample(table.column_names, len(table.column_names)))

    _rewrite(path, change)
    return f"{path.name}, {name}"


def _order_of_rows(folder: Path, _: Path, source: random.Random) -> str:
    path = _rows_file(folder, source)
    change = source.choice(
        [lambda t: t[::-1], lambda t: t[1:], lambda t: pa.concat_tables([t, t[:1]]), lambda t: t[:0]]
    )
    _rewrite(path, change)
    return path.name


def _row_groups(folder: Path, _: Path, source: random.Random) -> str:
    path, size = _rows_file(folder, source), source.choice([1, 7, 31, 33, 10**6])
    _rewrite(path, lambda table: table, row_group_size=size)
    return f"{path.name}, {size}"


def _footer_words(folder: Path, _: Path, source: random.Random) -> str:
    path = _rows_file(folder, source)
    with pq.ParquetFile(path) as parquet:
        table, metadata = parquet.read(), dict(parquet.metadata.metadata)
    key = source.choice([key for key in sorted(metadata) if key.startswith(b"mergedistill")])
    metadata[key] = source.choice([b"", b"2", b"\xff", b"{", b"x" * 5000])
    if source.random() < 0.3:
        del metadata[key]
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=32)
    return f"{path.name}, {key.decode()}"


def _bit(folder: Path, _: Path, source: random.Random) -> str:
    path = source.choice(_files(folder, source))
    content = bytearray(path.read_bytes())
    place = source.randrange(len(content))
    content[place] ^= 1 << source.randrange(8)
    path.write_bytes(content)
    return f"{path.name}, byte {place}"


def _last_bytes(folder: Path, _: Path, source: random.Random) -> str:
    """Damages the end of the file, where the footer is, because damage there has less common effects."""
    path = _rows_file(folder, source)
    content = bytearray(path.read_bytes())
    place = len(content) - 1 - source.randrange(min(3000, len(content)))
    content[place] ^= source.randrange(1, 256)
    path.write_bytes(content)
    return f"{path.name}, byte {place}"


def _block(folder: Path, _: Path, source: random.Random) -> str:
    path = source.choice([_rows_file(folder, source), folder / VOCABULARY_FILE])
    content = bytearray(path.read_bytes())
    start, length = source.randrange(len(content)), source.choice([16, 512, 4096])
    part = content[start : start + length]
    content[start : start + length] = source.choice([bytes(len(part)), source.randbytes(len(part))])
    path.write_bytes(content)
    return f"{path.name}, byte {start}"


def _length(folder: Path, _: Path, source: random.Random) -> str:
    files = _files(folder, source)
    path = source.choice([*files, folder / DEFAULT_TOKENIZER / "tokenizer.json"])
    content = path.read_bytes()
    path.write_bytes(source.choice([b"", content[:-1], content[: source.randrange(len(content))], content + b"\0" * 9]))
    return path.name


def _missing(folder: Path, _: Path, source: random.Random) -> str:
    teacher = source.choice(sorted((folder / TEACHER_TOKENIZERS).iterdir()))
    files = _files(folder, source)
    path = source.choice([*files, teacher / "tokenizer.json", teacher / "tokenizer_config.json"])
    path.unlink()
    return path.name


def _extra(folder: Path, _: Path, source: random.Random) -> str:
    """Harmless: files that the manifest does not list are not read."""
    path = source.choice(["evil.py", "en/en-wordpiece/999999.parquet", f"{DEFAULT_TOKENIZER}/authorized_keys"])
    (folder / path).write_bytes(source.randbytes(100))
    return path


def _swapped(folder: Path, _: Path, source: random.Random) -> str:
    one, other = source.sample(sorted(folder.glob("*/*/*.parquet")), 2)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(source.choice([first, second]))
    return f"{one.name} and {other.name}"


def _another_run(folder: Path, other: Path, source: random.Random) -> str:
    paths = [path for path in sorted(folder.glob("*/*/*.parquet")) if (other / path.relative_to(folder)).exists()]
    path = source.choice(paths)
    path.write_bytes((other / path.relative_to(folder)).read_bytes())
    return path.name


def _places(value, place: tuple = ()) -> list[tuple]:
    """Returns the places of all values in JSON, each before the values inside it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([place] if place else []), *(inner for key, part in items for inner in _places(part, (*place, key)))]


def _change_json(path: Path, source: random.Random) -> str:
    content = json.loads(path.read_text())
    place = source.choice(_places(content))
    parent = content
    for part in place[:-1]:
        parent = parent[part]
    what, key = source.randrange(5), place[-1]
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(parent, dict):
        parent[source.choice(_TEXTS)] = parent.pop(key)
    elif what == 2 and type(parent[key]) is int:
        parent[key] += source.choice([-1, 1])
    elif what == 3 and isinstance(parent, list):
        parent.append(parent[key])
    else:
        parent[key] = source.choice(_JSON)
    path.write_text(json.dumps(content))
    return ".".join(map(str, place))


def _manifest_field(folder: Path, _: Path, source: random.Random) -> str:
    return _change_json(folder / MANIFEST_FILE, source)


def _manifest_text(folder: Path, _: Path, source: random.Random) -> str:
    path = folder / MANIFEST_FILE
    content = path.read_text()
    number = source.choice(list(re.finditer(r": (\d+)", content)))
    text = source.choice(["NaN", "Infinity", "1e999", "9" * 5000, "[" * 5000, "-0", '"\\ud800"', "0x1"])
    path.write_text(content[: number.start(1)] + text + content[number.end(1) :])
    return text[:20]


def _name(folder: Path, _: Path, source: random.Random) -> str:
    path = folder / MANIFEST_FILE
    old, new = source.choice(["en", "ru", "hi-bpe", "en-wordpiece"]), source.choice(_TEXTS)
    path.write_text(path.read_text().replace(json.dumps(old), json.dumps(new)))
    return f"{old} is {new[:20]!r}"


def _vocabulary_cell(folder: Path, _: Path, source: random.Random) -> str:
    path = folder / VOCABULARY_FILE
    table = pq.read_table(path)
    name = source.choice(table.column_names)
    values = table[name].to_pylist()
    row = source.randrange(len(values))
    what = {"role": _ROLES, "token": ["", "x", None, values[row - 1]]}.get(name, [None, -1, 0, 3, 10**6])
    values[row] = source.choice(what)
    pq.write_table(_set_column(table, name, values), path)
    return f"{name}, row {row}"


def _vocabulary_columns(folder: Path, _: Path, source: random.Random) -> str:
    path = folder / VOCABULARY_FILE
    table = pq.read_table(path)
    name = source.choice(table.column_names)
    what = source.randrange(5)
    if what == 0:
        table = table.drop_columns([name])
    elif what == 1:
        new = source.choice(_TEXTS)
        table = table.rename_columns([new if n == name else n for n in table.column_names])
    elif what == 2:
        table = table.append_column(name, table[name])
    elif what == 3:
        table = source.choice([table[:-1], table[:0], pa.concat_tables([table, table[:1]]), table[::-1]])
    else:
        table = _set_column(table, name, [str(value) for value in table[name].to_pylist()], pa.large_string())
    pq.write_table(table, path)
    return f"{name}, {what}"


def _tokenizer(folder: Path, _: Path, source: random.Random) -> str:
    path = source.choice(sorted((folder / "_tokenizers").rglob("*.json")))
    return f"{path.parent.name}/{path.name}, {_change_json(path, source)}"


_KINDS = {
    kind.__name__.removeprefix("_").replace("_", " "): kind
    for kind in (
        _value, _list, _text_cell, _type, _columns, _order_of_rows, _row_groups, _footer_words, _bit, _last_bytes,
        _block, _length, _missing, _extra, _swapped, _another_run, _manifest_field, _manifest_text, _name,
        _vocabulary_cell, _vocabulary_columns, _tokenizer,
    )
}  # fmt: skip
