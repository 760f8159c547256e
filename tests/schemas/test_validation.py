"""Damaged folders of predictions: every reader refuses, in one line, damage that would change the training data."""

import itertools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.trim.folders import trim
from schemas.errors import UserError, printable
from schemas.inspect import inspect_row, summarize
from schemas.manifest import MANIFEST_FILE
from schemas.predictions import open_predictions
from tests.support.columns import read_columns
from tests.support.damage import edit_manifest, mutations, read_content, rewrite

COUNT = 62


def read_all(folder: Path, most: int | None = None) -> list[bytes]:
    """All that the trainer reads from a folder, or from its first files."""
    opened = open_predictions(str(folder))
    return [
        columns.values(name).tobytes()
        for file in opened.files[:most]
        for group in range(len(file.record.row_groups))
        for columns in [read_columns(file, group, opened.top_k)]
        for name in columns._columns
    ]


def refusal(look) -> str:
    with pytest.raises(UserError) as raised:
        look()
    return str(raised.value)


@pytest.mark.parametrize("number", range(COUNT))
def test_refused_by_all_who_read(number, predictions, tmp_path):
    description, damage = next(itertools.islice(mutations(predictions, 0, COUNT), number, None))
    copy = shutil.copytree(predictions, tmp_path / "copy")
    damage(copy)
    for look in (
        lambda: read_all(copy),
        lambda: summarize(open_predictions(str(copy))),
        lambda: trim(open_predictions(str(copy)), str(tmp_path / "trimmed")),
    ):
        said = refusal(look)
        assert str(copy) in said and len(printable(said)) < 2000, description
    assert not (tmp_path / "trimmed").exists()


def test_a_flipped_bit_changes_nothing_in_silence(predictions, tmp_path):
    copy = shutil.copytree(predictions, tmp_path / "copy")
    expected = read_all(copy, 1)
    path = copy / open_predictions(str(copy)).files[0].record.path
    whole, source = path.read_bytes(), random.Random(1)
    refused = 0
    for _ in range(150):
        content = bytearray(whole)
        content[source.randrange(len(content))] ^= 1 << source.randrange(8)
        path.write_bytes(content)
        try:
            assert read_all(copy, 1) == expected
        except UserError:
            refused += 1
    assert refused > 100


def test_the_example_is_named(predictions, tmp_path):
    copy = shutil.copytree(predictions, tmp_path / "copy")
    file = next(file for file in open_predictions(str(copy)).files if len(file.record.row_groups) > 1)
    rows = pq.ParquetFile(file.url).read()
    labels, row = rows["labels"].to_pylist(), file.record.row_groups[0] + 2
    labels[row][-1] = 10**6
    rewrite(copy, file.record.path, labels=labels)
    opened = open_predictions(str(copy))
    (file,) = [other for other in opened.files if other.record.path == file.record.path]
    example = rows["example_id"][row].as_py()
    size = len(opened.vocabulary)
    said = (
        f"{file.url}: row group 1: example {example}: labels has an id outside the vocabulary of {size} tokens: 1000000"
    )
    assert refusal(lambda: read_columns(file, 1, 8)).startswith(said)
    # The error is the same if the teacher's columns are not read.
    assert refusal(lambda: read_columns(file, 1, 0)).startswith(said)
    read_columns(file, 0, 8)


@pytest.mark.parametrize("is_inline", [True, False])
def test_whatever_stands_in_a_manifest_is_one_line(predictions, is_inline, tmp_path):
    """With any value of the manifest replaced by an odd one, the folder is refused in one line or can be opened."""
    content = json.loads((predictions / MANIFEST_FILE).read_text())
    copy = shutil.copytree(predictions, tmp_path / "copy")
    if is_inline:
        # As in manifests from before the list of files was a file of its own.
        del content["files_sha256"]
        content["files"] = read_content(predictions)["files"][:1]
    odd = [None, True, -1, 2**70, 1.5, float("nan"), float("inf"), "x", "\ud800", "../x", [], {}, [[]], {"x": {}}]
    source = random.Random(0)

    def places(value, place=()):
        yield place
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            yield from places(value[key], (*place, key))

    for place in list(places(content))[1:]:
        changed = json.loads(json.dumps(content))
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        for value in source.sample(odd, 4):
            inner[place[-1]] = value
            (copy / MANIFEST_FILE).write_text(json.dumps(changed))
            try:
                open_predictions(str(copy))
            except UserError as error:
                assert len(str(error)) < 2000
    for text in ("[" * 10**5, "{}", "[]", "3", '{"schema_version": ' + "9" * 5000 + "}", "\ufeff{}", ""):
        (copy / MANIFEST_FILE).write_text(text)
        assert MANIFEST_FILE in refusal(lambda: open_predictions(str(copy)))


def test_predictions_marked_as_trimmed_need_a_trimmed_folder(predictions, tmp_path):
    copy = shutil.copytree(predictions, tmp_path / "copy")
    record = open_predictions(str(copy)).files[0].record
    rows = pq.ParquetFile(copy / record.path).read()
    ids, logprobs = rows["topk_ids"].to_pylist(), rows["topk_logprobs"].to_pylist()
    ids[0][1], logprobs[0][1] = -1, np.float16(-np.inf)
    rewrite(copy, record.path, topk_ids=ids, topk_logprobs=logprobs)
    assert "outside the vocabulary" in refusal(lambda: read_all(copy))
    edit_manifest(copy, lambda manifest: manifest.update(trimmed=True))
    read_all(copy)
    # The order of the others still counts, and -1 needs -inf and vice versa.
    logprobs[0][2] = np.float16(logprobs[0][0] / 2)
    rewrite(copy, record.path, topk_ids=ids, topk_logprobs=logprobs)
    assert "topk_logprobs do not descend" in refusal(lambda: read_all(copy))
    logprobs = rows["topk_logprobs"].to_pylist()
    rewrite(copy, record.path, topk_ids=ids, topk_logprobs=logprobs)
    assert "topk_logprobs has a value that is not a log-probability" in refusal(lambda: read_all(copy))


def test_text_that_is_not_utf8(predictions, tmp_path):
    copy = shutil.copytree(predictions, tmp_path / "copy")
    record = open_predictions(str(copy)).files[0].record
    names = pq.ParquetFile(copy / record.path).read()["example_id"].to_pylist()
    broken = pa.array([b"\xff", *(name.encode() for name in names[1:])], pa.binary()).view(pa.string())
    rewrite(copy, record.path, example_id=broken)
    opened = open_predictions(str(copy))
    assert "example_id is not UTF-8" in refusal(lambda: inspect_row(opened, 0))
    assert "example_id is not UTF-8" in refusal(lambda: trim(opened, str(tmp_path / "trimmed")))
