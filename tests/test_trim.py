"""Trimming: a smaller vocabulary over the same rows, and what falls outside it."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

from pipeline.trim import Usage, trim_rows, trim_vocabulary
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS, open_predictions
from schemas.rows import ROW_SCHEMA
from schemas.vocabulary import SPECIAL_ROLES, VOCABULARY_FILE
from tests import world
from tests.test_reader import reader, take
from tests.test_training import train, write_config


def run_trim(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "pipeline.trim", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def trimmed(predictions, tmp_path_factory):
    """(the trimmed folder, what the command printed, its JSON report)."""
    folder = tmp_path_factory.mktemp("trim")
    done = run_trim(predictions, "--output", folder / "t", "--json", folder / "t.json", "--hidden-size", "100")
    assert done.returncode == 0, done.stderr
    return folder / "t", done.stdout, json.loads((folder / "t.json").read_text())


@pytest.fixture(scope="module")
def fewer(predictions, tmp_path_factory):
    """Trimmed so far that predictions fall outside."""
    folder = tmp_path_factory.mktemp("fewer") / "f"
    assert run_trim(predictions, "--output", folder, "--min-predicted", 10**9).returncode == 0
    return folder


def written(folder) -> pd.Series:
    table = pd.read_parquet(folder / VOCABULARY_FILE)
    return table.role + " " + table.token


def used(predictions) -> tuple[set[int], set[int]]:
    """(ids emitted in the text, ids predicted), row by row."""
    emitted, predicted = set(), set()
    for row in pd.read_parquet(predictions).itertuples():
        ids = row.input_ids.copy()
        ids[row.masked_positions] = row.labels
        emitted |= set(ids.tolist())
        predicted |= set(row.topk_ids.tolist())
    return emitted, predicted


def test_what_is_used_is_kept_and_little_else(predictions, trimmed):
    folder, printed, report = trimmed
    before, after = written(predictions), set(written(folder))
    emitted, predicted = used(predictions)
    assert {before[i] for i in emitted | predicted} <= after
    left_out = set(before) - after
    table = pd.read_parquet(predictions / VOCABULARY_FILE)
    assert len(left_out) > 5 and not any(entry.split()[0] in SPECIAL_ROLES for entry in left_out)
    # Beyond that only what BPE builds its tokens from.
    bpe = set((table.role + " " + table.token)[table["hi-bpe"].notna()])
    specials = set(before[table.role.isin(SPECIAL_ROLES)])
    assert after - {before[i] for i in emitted | predicted} <= bpe | specials
    assert (report["tokens"], report["kept"]) == (len(before), len(after))
    assert report["emitted_outside"] == report["predicted_outside"] == 0
    assert f"saved: {(len(before) - len(after)) * 101:,} parameters of a student of width 100" in printed
    # In the old order.
    assert [entry for entry in before if entry in after] == written(folder).tolist()


def test_rows_say_the_same(predictions, trimmed):
    before, after = written(predictions), written(trimmed[0])
    old = pd.read_parquet(predictions).set_index("example_id").sort_index()
    new = pd.read_parquet(trimmed[0]).set_index("example_id").sort_index()
    unknown = after[after.str.startswith("unknown ")].iloc[0]
    assert (old.index == new.index).all()
    for (_, a), (_, b) in zip(old.iterrows(), new.iterrows(), strict=True):
        for column in ("labels", "topk_ids"):
            assert (before[a[column]].to_numpy() == after[b[column]].to_numpy()).all()
        # Random replacements may have left; nothing else.
        differs = before[a.input_ids].to_numpy() != after[b.input_ids].to_numpy()
        assert set(np.flatnonzero(differs)) <= set(a.masked_positions)
        assert (after[b.input_ids].to_numpy()[differs] == unknown).all()
        for column in ("masked_positions", "label_logprobs", "topk_logprobs"):
            assert (a[column] == b[column]).all()


def test_tokenizers_segment_the_corpora_as_before(predictions, trimmed, text):
    after = dict(zip(written(trimmed[0]), range(10**6), strict=False))
    to_trimmed = written(predictions).map(after)
    for name, language in world.TEACHERS.items():
        old = AutoTokenizer.from_pretrained(predictions / TEACHER_TOKENIZERS / name)
        new = AutoTokenizer.from_pretrained(trimmed[0] / TEACHER_TOKENIZERS / name)
        for line in (text / f"{language}.txt").read_text().splitlines():
            assert new(line)["input_ids"] == to_trimmed[old(line)["input_ids"]].tolist()
        # Other text falls into smaller pieces, all of them in the vocabulary.
        for line in ("xylophone zebra!", "море नदी 😀"):
            assert max(new(line)["input_ids"]) < len(after)
    default = AutoTokenizer.from_pretrained(trimmed[0] / DEFAULT_TOKENIZER)
    assert len(default) == len(after)


def test_predictions_outside_come_last(predictions, fewer):
    before, after = written(predictions), written(fewer)
    kept = set(after)
    old, new = (pd.read_parquet(f).set_index("example_id").sort_index() for f in (predictions, fewer))
    outside = 0
    for (_, a), (_, b) in zip(old.iterrows(), new.iterrows(), strict=True):
        rows = zip(*(x.reshape(-1, 8) for x in (a.topk_ids, a.topk_logprobs, b.topk_ids, b.topk_logprobs)), strict=True)
        for old_ids, old_logprobs, ids, logprobs in rows:
            inside = [(t, p) for t, p in zip(before[old_ids], old_logprobs, strict=True) if t in kept]
            assert list(zip(after[ids[ids >= 0]], logprobs[ids >= 0], strict=True)) == inside
            assert (ids[len(inside) :] == -1).all() and np.isneginf(logprobs[len(inside) :]).all()
            outside += 8 - len(inside)
    assert outside > 0
    assert open_predictions(str(fewer)).vocabulary.sha256 != open_predictions(str(predictions)).vocabulary.sha256


def test_a_student_is_trained_on_it(trimmed, fewer, run_pipeline, tmp_path):
    heldout = run_pipeline(tmp_path / "heldout", suffix=".heldout")
    like = tmp_path / "like"
    done = run_trim(heldout, "--output", like, "--like", fewer)
    assert done.returncode == 0, done.stderr
    assert all(torch.isfinite(batch.labels_M).all() for batch in take(reader(fewer), 3))
    trained = train(write_config(tmp_path, fewer, like, steps=20))
    assert trained.returncode == 0, trained.stderr
    student = tmp_path / "student"
    config = json.loads((student / "config.json").read_text())
    assert config["vocab_size"] == len(written(fewer)) == len(AutoTokenizer.from_pretrained(student))
    for result in json.loads((student / "evaluation.json").read_text())["languages"].values():
        assert np.isfinite(result["nll"])
    (log,) = [line for line in trained.stderr.splitlines() if "nan" in line.lower()] or [""]
    assert not log


def test_run_again_it_does_only_what_is_missing(predictions, trimmed, tmp_path):
    arguments = (predictions, "--output", tmp_path / "t")
    assert run_trim(*arguments).returncode == 0
    files = {p.relative_to(tmp_path / "t"): p.read_bytes() for p in (tmp_path / "t").rglob("*") if p.is_file()}
    expected = {p.relative_to(trimmed[0]): p.read_bytes() for p in trimmed[0].rglob("*") if p.is_file()}
    assert files == expected
    lost, *kept = sorted((tmp_path / "t").rglob("0*.parquet"))
    lost.unlink()
    before = [path.stat().st_mtime_ns for path in kept]
    assert run_trim(*arguments).returncode == 0
    assert lost.read_bytes() == expected[lost.relative_to(tmp_path / "t")]
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_misuse_is_one_line(predictions, trimmed, run_pipeline, tmp_path):
    strings = run_pipeline(tmp_path / "s", identity="string", top_k=0)
    for arguments, message in [
        ((predictions, "--output", predictions), "is one of the folders to read"),
        ((predictions, "--output", tmp_path / "x", "--like", strings), "its vocabulary is no part of this one"),
        ((predictions, predictions, "--output", tmp_path / "x"), "is in more than one of"),
        ((predictions, "--output", trimmed[0], "--min-predicted", "1000000"), "mergedistill.vocabulary_sha256 is"),
    ]:
        done = run_trim(*arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_no_rows_at_all():
    table = np.array([0, 1], np.int32)
    assert len(trim_rows(ROW_SCHEMA.empty_table(), table, 0, 8)) == 0
    assert (Usage(np.zeros(2), np.ones(2)) + Usage(np.ones(2), np.ones(2))).predicted.tolist() == [2, 2]


def test_trimming_nothing_changes_nothing(predictions):
    vocabulary = open_predictions(str(predictions)).vocabulary
    same, table = trim_vocabulary(vocabulary, np.ones(len(vocabulary), bool))
    assert same.sha256 == vocabulary.sha256 and (table == np.arange(len(vocabulary))).all()
