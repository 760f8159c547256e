"""Damaged folders of predictions: seeded mutations, each of which changes the training data.

A reader must reject each one that `mutations` yields. Hostile ones are resealed: the manifest and the footers agree with the
damaged file, so that only the values themselves reveal the damage.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shard.parquet import encode_rows
from schemas.file_table import FILE_SCHEMA, FILES_FILE
from schemas.footers import read_footer
from schemas.manifest import MANIFEST_FILE
from schemas.rows import RECEIPT_KEY, ROW_SCHEMA, RUN_KEY, row_schema
from schemas.vocabulary import VOCABULARY_FILE

Damage = Callable[[Path], None]


def read_content(folder: Path) -> dict:
    """Returns the manifest's JSON, with the list of `files` added."""
    content = json.loads((folder / MANIFEST_FILE).read_text())
    return content | {"files": pq.read_table(folder / FILES_FILE).to_pylist()}


def write_content(folder: Path, content: dict) -> None:
    """Writes the changed result of `read_content`: the list of files, and the manifest, sealed with the list's sha256."""
    pq.write_table(pa.Table.from_pylist(content["files"], FILE_SCHEMA), folder / FILES_FILE)
    seal = {"files_sha256": hashlib.sha256((folder / FILES_FILE).read_bytes()).hexdigest()}
    rest = {name: value for name, value in content.items() if name != "files"}
    (folder / MANIFEST_FILE).write_text(json.dumps(rest | seal))


def edit_manifest(folder: Path, change: Callable[[dict], None]) -> None:
    """Applies `change` to the manifest's content in place."""
    content = read_content(folder)
    change(content)
    write_content(folder, content)


def rewrite(folder: Path, path: str, table: pa.Table | None = None, **columns) -> None:
    """Replaces some or all columns of a file, and makes its footer and the manifest agree with it.

    Args:
      table: written unchanged, whatever its schema.
      columns: lists of lists, or Arrow arrays, by name.
    """
    manifest = read_content(folder)
    record = next(record for record in manifest["files"] if record["path"] == path)
    old = pq.ParquetFile(folder / path).read()
    metadata = old.schema.metadata
    if table is None:
        schema = row_schema(manifest.get("tail_samples", 0))
        made = {name: columns.get(name, old[name]) for name in schema.names}
        table = pa.table(
            {name: pa.array(v, schema.field(name).type) if isinstance(v, list) else v for name, v in made.items()},
            schema=schema,
        )
    content = encode_rows(
        table,
        manifest["top_k"],
        manifest["vocabulary"]["sha256"],
        metadata[RUN_KEY.encode()].decode(),
        metadata[RECEIPT_KEY.encode()].decode(),
        max([1, *record["row_groups"]]),
        tail_samples=manifest.get("tail_samples", 0),
    )
    (folder / path).write_bytes(content)
    reseal(folder, path)


def reseal(folder: Path, path: str) -> None:
    """Makes the manifest agree with the current content of a file."""
    footer = read_footer(str(folder / path))
    counts = {"tokens": sum(footer.tokens), "masked_positions": sum(footer.masked_positions)}
    seal = {"size": footer.size, "footer_sha256": footer.sha256, "row_groups": footer.row_groups, **counts}
    edit_manifest(
        folder, lambda m: [record.update(seal) for record in m["files"] if record["path"] == path and record["rows"]]
    )


def mutations(folder: Path, seed: int, count: int) -> Iterator[tuple[str, Damage]]:
    """Yields `count` mutations of predictions with K > 0: a description, and a function that damages a copy of `folder`."""
    manifest = read_content(folder)
    kinds = [*_VALUES, *_SEALED, *_MANIFEST]
    for number in range(count):
        source = random.Random(f"{seed} {number}")
        name = kinds[number % len(kinds)]
        path = source.choice([record["path"] for record in manifest["files"] if record["rows"]])
        yield f"{number}: {name} in {path}", _damage(name, path, manifest, source)


def _damage(name: str, path: str, manifest: dict, source: random.Random) -> Damage:
    if name in _VALUES:
        return lambda folder: _change_value(folder, path, manifest, name, source)
    if name in _SEALED:
        return lambda folder: _SEALED[name](folder, path, source)
    return lambda folder: edit_manifest(folder, lambda content: _MANIFEST[name](content, path, source))


def _change_value(folder: Path, path: str, manifest: dict, name: str, source: random.Random) -> None:
    """Damages one row of a file, and reseals the file."""
    column, change = _VALUES[name]
    rows = pq.ParquetFile(folder / path).read()
    values = rows[column].to_pylist()
    filled = [row for row, inner in enumerate(values) if inner]
    if name == "positions do not ascend":
        filled = [row for row in filled if len(values[row]) > 1]
    row = source.choice(filled)
    length = len(rows["input_ids"][row].as_py())
    change(values, row, source, {"V": manifest["vocabulary"]["size"], "L": length, "K": manifest["top_k"]} | manifest)
    rewrite(folder, path, **{column: values})


def _put(number: Callable[[dict], float]) -> Callable:
    def change(values: list, row: int, source: random.Random, know: dict) -> None:
        values[row][source.randrange(len(values[row]))] = number(know)

    return change


def _last(number: Callable[[dict], float]) -> Callable:
    def change(values: list, row: int, source: random.Random, know: dict) -> None:
        values[row][-1] = number(know)

    return change


def _swap(values: list, row: int, source: random.Random, know: dict) -> None:
    values[row][0], values[row][1] = values[row][1], values[row][0]


def _drop(values: list, row: int, source: random.Random, know: dict) -> None:
    del values[row][source.randrange(len(values[row]))]


def _rise(values: list, row: int, source: random.Random, know: dict) -> None:
    start = source.randrange(len(values[row]) // know["K"]) * know["K"]
    values[row][start + 1] = values[row][start] / 2


def _lengthen(values: list, row: int, source: random.Random, know: dict) -> None:
    values[row] += [values[row][-1]] * know["max_length"]


def _empty(values: list, row: int, source: random.Random, know: dict) -> None:
    values[row] = []


def _null(values: list, row: int, source: random.Random, know: dict) -> None:
    values[row][source.randrange(len(values[row]))] = None


_VALUES = {
    "id below": ("input_ids", _put(lambda know: -1)),
    "id far below": ("input_ids", _put(lambda know: -(2**31))),
    "id above": ("input_ids", _put(lambda know: know["V"])),
    "label below": ("labels", _put(lambda know: -1)),
    "label above": ("labels", _put(lambda know: 2**31 - 1)),
    "prediction below": ("topk_ids", _put(lambda know: -2)),
    "prediction marked as trimmed": ("topk_ids", _put(lambda know: -1)),
    "prediction above": ("topk_ids", _put(lambda know: know["V"])),
    "position below": ("masked_positions", lambda values, row, *_: values[row].__setitem__(0, -1)),
    "position above": ("masked_positions", _last(lambda know: know["L"])),
    "positions do not ascend": ("masked_positions", _swap),
    "label's log-probability above 0": ("label_logprobs", _put(lambda know: 1e-6)),
    "label's log-probability NaN": ("label_logprobs", _put(lambda know: float("nan"))),
    "label's log-probability infinite": ("label_logprobs", _put(lambda know: float("-inf"))),
    "log-probability above 0": ("topk_logprobs", _put(lambda know: np.float16(1e-7))),
    "log-probability NaN": ("topk_logprobs", _put(lambda know: np.float16("nan"))),
    "log-probability infinite": ("topk_logprobs", _put(lambda know: np.float16("-inf"))),
    "log-probabilities rise": ("topk_logprobs", _rise),
    "a position less": ("masked_positions", _drop),
    "a label less": ("labels", _drop),
    "a prediction less": ("topk_ids", _drop),
    "a log-probability less": ("topk_logprobs", _drop),
    "a label's log-probability less": ("label_logprobs", _drop),
    "row too long": ("input_ids", _lengthen),
    "row of nothing": ("input_ids", _empty),
    "null within a list": ("labels", _null),
}


def _flip_page(folder: Path, path: str, source: random.Random) -> None:
    """Flips one bit in the pages of a column that is trained on."""
    content = bytearray((folder / path).read_bytes())
    metadata = pq.read_metadata(folder / path)
    columns = [metadata.row_group(0).column(ROW_SCHEMA.names.index(name)) for name in ("input_ids", "labels")]
    chunk = source.choice(columns)
    # Skips the page's header: the last bytes of a chunk are in a page's body.
    place = chunk.data_page_offset + chunk.total_compressed_size - 1 - source.randrange(8)
    content[place] ^= 1 << source.randrange(8)
    (folder / path).write_bytes(content)


def _other_file(folder: Path, path: str, source: random.Random) -> None:
    """Replaces the file by that of another shard of the same run."""
    files = [file for file in sorted(folder.glob("*/*/*.parquet")) if file != folder / path]
    (folder / path).write_bytes(source.choice(files).read_bytes())


def _other_run(folder: Path, path: str, source: random.Random) -> None:
    """Puts the same rows under another run's fingerprint."""
    content = (folder / path).read_bytes()
    run = pq.read_metadata(folder / path).metadata[RUN_KEY.encode()]
    (folder / path).write_bytes(content.replace(run, run[::-1]))
    reseal(folder, path)


def _valid_values(folder: Path, path: str, source: random.Random) -> None:
    """Writes other valid rows that the manifest does not list."""
    before = read_content(folder)
    ids = pq.ParquetFile(folder / path).read()["input_ids"].to_pylist()
    ids[0] = ids[0][::-1] if ids[0] != ids[0][::-1] else [ids[0][0]] * len(ids[0])
    rewrite(folder, path, input_ids=ids)
    write_content(folder, before)


def _truncate(folder: Path, path: str, source: random.Random) -> None:
    content = (folder / path).read_bytes()
    (folder / path).write_bytes(content[: source.randrange(len(content))])


def _wider(folder: Path, path: str, source: random.Random) -> None:
    rows = pq.ParquetFile(folder / path).read()
    column = rows["input_ids"].cast(pa.list_(pa.int64()))
    rewrite(folder, path, rows.set_column(rows.column_names.index("input_ids"), "input_ids", column))


def _null_list(folder: Path, path: str, source: random.Random) -> None:
    rows = pq.ParquetFile(folder / path).read()
    column = pa.array([None, *rows["topk_ids"].to_pylist()[1:]], pa.list_(pa.int32()))
    rewrite(folder, path, rows.set_column(rows.column_names.index("topk_ids"), "topk_ids", column))


def _other_language(folder: Path, path: str, source: random.Random) -> None:
    rows = pq.ParquetFile(folder / path).read()
    rewrite(folder, path, language=["xx", *rows["language"].to_pylist()[1:]])


def _vocabulary(change: Callable[[dict], None]) -> Callable:
    def damage(folder: Path, path: str, source: random.Random) -> None:
        columns = pq.read_table(folder / VOCABULARY_FILE).to_pydict()
        change(columns)
        types = {name: pa.string() if name in ("token", "role") else pa.int32() for name in columns}
        arrays = {name: pa.array(values, types[name]) for name, values in columns.items()}
        pq.write_table(pa.table(arrays), folder / VOCABULARY_FILE)

    return damage


_SEALED = {
    "flipped bit in a page": _flip_page,
    "file of another shard": _other_file,
    "file of another run": _other_run,
    "possible values": _valid_values,
    "truncated": _truncate,
    "wider integers": _wider,
    "null list": _null_list,
    "another language": _other_language,
    "vocabulary's tokens swapped": _vocabulary(lambda c: c["token"].insert(7, c["token"].pop())),
    "vocabulary's id twice": _vocabulary(lambda c: c["id"].__setitem__(3, 2)),
    "vocabulary without a mask": _vocabulary(lambda c: c["role"].__setitem__(c["role"].index("mask"), "literal")),
    "vocabulary with a null": _vocabulary(lambda c: c["token"].__setitem__(5, None)),
}


def _record(content: dict, path: str) -> dict:
    return next(record for record in content["files"] if record["path"] == path)


def _bump(field: str, by: int) -> Callable:
    def change(content: dict, path: str, source: random.Random) -> None:
        _record(content, path)[field] += by

    return change


def _set(field: str, value: object) -> Callable:
    return lambda content, path, source: content.update({field: value})


def _rename_language(content: dict, path: str, source: random.Random) -> None:
    text = json.dumps(content).replace(json.dumps(_record(content, path)["language"]), json.dumps("../../../escaped"))
    content.update(json.loads(text))


_MANIFEST = {
    "one token more": _bump("tokens", 1),
    "one masked position less": _bump("masked_positions", -1),
    "one row less": _bump("rows", -1),
    "one byte more": _bump("size", 1),
    "negative rows": _bump("rows", -(10**6)),
    "path outside": lambda content, path, source: _record(content, path).update(path="../" + path),
    "absolute path": lambda content, path, source: _record(content, path).update(path="/etc/passwd"),
    "language that is a path": _rename_language,
    "teacher unknown": lambda content, path, source: _record(content, path).update(teacher="nobody"),
    "file twice": lambda content, path, source: content["files"].append(_record(content, path)),
    "file forgotten": lambda content, path, source: content["files"].remove(_record(content, path)),
    "language twice": lambda content, path, source: content["languages"].append(content["languages"][0]),
    "used more than read": lambda content, path, source: content["languages"][0].update(used=10**9),
    "another run": _set("run", "f00"),
    "another k": _set("top_k", 3),
    "text for a number": _set("top_k", "8"),
    "NaN": lambda content, path, source: content["masking"].update(mlm_probability=float("nan")),
    "shares beyond 1": lambda content, path, source: content["masking"].update(keep=0.9),
    "huge length": _set("max_length", 10**30),
    "short rows": _set("max_length", 3),
    "null": _set("languages", None),
    "vocabulary's size": lambda content, path, source: content["vocabulary"].update(size=10**6),
    "teacher's size": lambda content, path, source: next(iter(content["teachers"].values())).update(vocabulary_size=7),
    "another version": _set("schema_version", 10**9),
}
