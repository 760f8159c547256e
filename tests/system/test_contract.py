"""The output of stage one: the oracle, the contract's columns, and the manifest."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from schemas.predictions import open_predictions
from schemas.rows import ROW_SCHEMA
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import world
from tests.support.commands import run_python
from tests.support.text_files import line_places


@pytest.fixture(scope="module")
def frame(predictions) -> pd.DataFrame:
    return pd.read_parquet(predictions)


@torch.no_grad()
def test_oracle(frame, predictions, teachers):
    """Maps rows back by `_vocabulary.parquet` alone, and checks them with plain transformers, one sequence at a time."""
    vocabulary = pd.read_parquet(predictions / VOCABULARY_FILE).set_index("id")
    for name, rows in frame.groupby("teacher"):
        to_teacher = vocabulary[name]
        model = AutoModelForMaskedLM.from_pretrained(teachers / name).eval()
        for row in rows.head(60).itertuples():
            input_ids = torch.tensor(to_teacher[row.input_ids].to_numpy(np.int64))[None]
            logprobs = model(input_ids=input_ids).logits[0].log_softmax(-1)[row.masked_positions.tolist()]
            labels = torch.tensor(to_teacher[row.labels].to_numpy(np.int64))
            np.testing.assert_allclose(row.label_logprobs, logprobs.gather(1, labels[:, None])[:, 0], atol=1e-4)
            top, ids = logprobs.topk(8)
            # float16 keeps 11 significant bits.
            np.testing.assert_allclose(row.topk_logprobs.reshape(-1, 8), top, rtol=2**-11, atol=1e-4)
            actual = to_teacher[row.topk_ids].to_numpy(np.int64).reshape(-1, 8)
            differs = actual != ids.numpy()
            # Ids may only swap where the teacher's log-probabilities nearly tie.
            by_id = logprobs.gather(1, torch.from_numpy(actual)).numpy()
            np.testing.assert_allclose(by_id[differs], top.numpy()[differs], atol=1e-4)


def test_columns(frame):
    assert list(frame.columns) == ROW_SCHEMA.names
    assert frame.example_id.is_unique
    for row in frame.itertuples():
        language, teacher, source, record, segment, copy = row.example_id.split(":")
        assert (language, teacher, source) == (row.language, row.teacher, f"{language}.txt")
        assert int(record) >= 0 and int(segment) >= 0 and int(copy) == 0
        count = len(row.masked_positions)
        assert 1 <= count == len(row.labels) == len(row.label_logprobs)
        assert len(row.topk_ids) == len(row.topk_logprobs) == 8 * count
        assert (np.diff(row.masked_positions) > 0).all() and len(row.input_ids) <= world.MAX_LENGTH
        assert row.topk_logprobs.dtype == np.float16
        descending = row.topk_logprobs.reshape(-1, 8).astype(np.float32)
        assert (np.diff(descending, axis=1) <= 0).all() and (np.exp(descending).sum(1) < 1.01).all()


def test_rows_are_the_text(frame, predictions, teachers, text):
    """The segments of a line, unmasked and joined again, are the line's own tokens."""
    vocabulary = pd.read_parquet(predictions / VOCABULARY_FILE).set_index("id")
    for name, language in world.TEACHERS.items():
        tokenizer = AutoTokenizer.from_pretrained(teachers / name)
        to_teacher = vocabulary[name]
        pieces: dict[int, list[int]] = {}
        for row in frame[frame.teacher == name].itertuples():
            merged = row.input_ids.copy()
            merged[row.masked_positions] = row.labels
            pieces.setdefault(int(row.example_id.split(":")[3]), []).extend(to_teacher[merged[1:-1]].astype(int))
        content = (text / f"{language}.txt").read_bytes()
        for (place, _), line in zip(line_places(content).items(), content.decode().splitlines(), strict=False):
            expected = tokenizer(line, add_special_tokens=False)["input_ids"]
            assert pieces.get(place, []) == (expected if len(expected) >= 4 else [])


def test_manifest_adds_up(frame, predictions):
    opened = open_predictions(str(predictions))
    (manifest,), vocabulary = opened.manifests, opened.vocabulary
    assert sum(file.rows for file in manifest.files) == len(frame)
    assert sum(file.masked_positions for file in manifest.files) == frame.labels.str.len().sum()
    assert sum(file.tokens for file in manifest.files) == frame.input_ids.str.len().sum()
    assert len(manifest.files) > len(world.WORDS)
    for file in manifest.files:
        metadata = pq.read_metadata(predictions / file.path)
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == file.row_groups
    for record in manifest.languages:
        assert record.records == record.used + sum(record.rejected.values()) == 200
        assert record.rows == (frame.language == record.language).sum()
    assert (manifest.top_k, manifest.vocabulary.size) == (8, len(vocabulary))


@pytest.mark.parametrize(
    ("room", "strangers"),
    [
        ("schemas", ["apache_beam", "torch", "transformers", "pipeline", "trainer"]),
        ("trainer", ["apache_beam", "pipeline"]),
        ("pipeline", ["trainer"]),
    ],
)
def test_rooms(room, strangers):
    """Every module of a package can be imported without the packages that it must not depend on."""
    code = f"""
import importlib, pkgutil, sys
for name in {strangers}:
    sys.modules[name] = None
import {room}
for module in pkgutil.walk_packages({room}.__path__, "{room}."):
    if module.name != "schemas.__main__":
        importlib.import_module(module.name)
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
