"""Trimming: the same rows with a smaller vocabulary, and the tokens outside it."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from pipeline.trim.tokens import trim_rows, trim_vocabulary
from schemas.errors import UserError
from schemas.manifest import DEFAULT_TOKENIZER, TEACHER_TOKENIZERS
from schemas.predictions import open_predictions
from schemas.rows import ROW_SCHEMA
from schemas.vocabulary import SPECIAL_ROLES, VOCABULARY_FILE
from tests.support import world
from tests.support.commands import call, run
from tests.support.readers import reader, take
from tests.support.training import train, write_config

# Many folders are trimmed.
pytestmark = pytest.mark.heavy


def run_trim(*arguments) -> subprocess.CompletedProcess:
    return call("pipeline.trim.__main__", *arguments)


@pytest.fixture(scope="module")
def trimmed(predictions, tmp_path_factory):
    """(the trimmed folder, what the command printed, its JSON report)."""
    folder = tmp_path_factory.mktemp("trim")
    # In a process of its own, as users run it.
    done = run(
        "pipeline.trim", predictions, "--output", folder / "t", "--json", folder / "t.json", "--hidden-size", "100"
    )
    assert done.returncode == 0, done.stderr
    return folder / "t", done.stdout, json.loads((folder / "t.json").read_text())


@pytest.fixture(scope="module")
def fewer(predictions, tmp_path_factory):
    """A folder trimmed so far that some predictions are outside the vocabulary."""
    folder = tmp_path_factory.mktemp("fewer") / "f"
    assert run_trim(predictions, "--output", folder, "--min-predicted", 10**9).returncode == 0
    return folder


def written(folder) -> pd.Series:
    table = pd.read_parquet(folder / VOCABULARY_FILE)
    return table.role + " " + table.token


def used(predictions) -> tuple[set[int], set[int]]:
    """(ids emitted in the text, ids predicted), collected row by row."""
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
    # Beyond these, only the parts that BPE builds its tokens from and a Unigram's least probable piece are kept.
    bpe = set((table.role + " " + table.token)[table["hi-bpe"].notna()])
    specials = set(before[table.role.isin(SPECIAL_ROLES)])
    assert len(after - {before[i] for i in emitted | predicted} - bpe - specials) <= 1
    assert (report["tokens"], report["kept"]) == (len(before), len(after))
    assert report["emitted_outside"] == report["predicted_outside"] == 0
    assert f"saved: {(len(before) - len(after)) * 101:,} parameters of a student of width 100" in printed
    # The order stays the same.
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
        # Only random replacements may be gone.
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
        # Other text is split into smaller pieces, all of them in the vocabulary.
        for line in ("xylophone zebra!", "море नदी 😀"):
            assert max(new(line)["input_ids"]) < len(after)
    default = AutoTokenizer.from_pretrained(trimmed[0] / DEFAULT_TOKENIZER)
    assert len(default) == len(after)


def test_predictions_outside_are_marked_in_their_place(predictions, fewer):
    before, after = written(predictions), written(fewer)
    kept = set(after)
    old, new = (pd.read_parquet(f).set_index("example_id").sort_index() for f in (predictions, fewer))
    outside = 0
    for (_, a), (_, b) in zip(old.iterrows(), new.iterrows(), strict=True):
        for token, p, trimmed_id, q in zip(
            before[a.topk_ids], a.topk_logprobs, b.topk_ids, b.topk_logprobs, strict=True
        ):
            if token in kept:
                assert (after[trimmed_id], q) == (token, p)
            else:
                assert trimmed_id == -1 and np.isneginf(q)
                outside += 1
    assert outside > 0
    assert open_predictions(str(fewer)).vocabulary.sha256 != open_predictions(str(predictions)).vocabulary.sha256


def test_heldout_text_keeps_the_targets_that_can_be_hit(fewer, run_pipeline, tmp_path):
    """Targets outside the vocabulary are removed with all their values; the manifest counts what remains."""
    heldout = run_pipeline(tmp_path / "h", suffix=".heldout")
    # A vocabulary that lacks even some emitted tokens.
    vocabulary = open_predictions(str(heldout)).vocabulary
    kept = np.arange(len(vocabulary)) % 3 != 1
    kept[[i for i, role in enumerate(vocabulary.roles) if role in SPECIAL_ROLES]] = True
    _, table = trim_vocabulary(vocabulary, kept)
    rows = pa.concat_tables(pq.read_table(path) for path in sorted(heldout.rglob("0*.parquet")))
    new = trim_rows(rows.select(ROW_SCHEMA.names), table, 0, 8).to_pandas().set_index("example_id")
    old = rows.to_pandas().set_index("example_id")
    lost = 0
    for name, a in old.iterrows():
        hit = kept[a.labels]
        lost += (~hit).sum()
        if not hit.any():
            assert name not in new.index
            continue
        b = new.loc[name]
        assert (b.masked_positions == a.masked_positions[hit]).all() and (b.labels == table[a.labels[hit]]).all()
        assert (b.label_logprobs == a.label_logprobs[hit]).all()
        assert (b.topk_ids == table[a.topk_ids.reshape(-1, 8)[hit].ravel()]).all()
        assert (b.input_ids == np.where(kept[a.input_ids], table[a.input_ids], 0)).all()
    assert lost > 50 and len(new) < len(old)
    like = tmp_path / "like"
    assert run_trim(heldout, "--output", like, "--vocabulary-from", fewer).returncode == 0
    opened, frame = open_predictions(str(like)), pd.read_parquet(like)
    assert sum(file.record.rows for file in opened.files) == len(frame)
    assert sum(file.record.masked_positions for file in opened.files) == frame.labels.str.len().sum()
    assert sum(record.rows for record in opened.manifests[0].languages) == len(frame)


def test_folders_of_one_teacher_and_of_no_predictions(run_pipeline, pipeline_settings, text, tmp_path):
    """A single Unigram has no fillers that keep its unknown penalty, and `top_k: 0` predicts nothing."""
    teachers = {"ru-unigram": pipeline_settings(tmp_path)["teachers"]["ru-unigram"]}
    folder = run_pipeline(tmp_path / "p", teachers=teachers, text={"ru": [str(text / "ru.txt")]}, top_k=0)
    assert run_trim(folder, "--output", tmp_path / "t").returncode == 0
    before, after = written(folder), written(tmp_path / "t")
    assert len(after) < len(before)
    old, new = (AutoTokenizer.from_pretrained(f / DEFAULT_TOKENIZER) for f in (folder, tmp_path / "t"))
    for line in (text / "ru.txt").read_text().splitlines():
        assert after[new(line)["input_ids"]].tolist() == before[old(line)["input_ids"]].tolist()
    # A trimmed folder can be trimmed, extended and read again, but the pipeline does not write into it.
    assert run_trim(tmp_path / "t", "--output", tmp_path / "tt").returncode == 0
    assert written(tmp_path / "tt").tolist() == after.tolist()
    with pytest.raises(UserError, match="holds predictions that another command wrote"):
        run_pipeline(tmp_path / "t", top_k=0)
    with pytest.raises(UserError, match="or was trimmed"):
        run_pipeline(
            tmp_path / "again", teachers=teachers, text={"ru": [str(text / "ru.txt")]}, extends=str(tmp_path / "t")
        )
    english = {"en-wordpiece": pipeline_settings(tmp_path)["teachers"]["en-wordpiece"]}
    more = run_pipeline(
        tmp_path / "m", teachers=english, text={"en": [str(text / "en.txt")]}, top_k=0, extends=str(tmp_path / "t")
    )
    assert reader([tmp_path / "t", more]).languages == ["en", "ru"]


def test_a_student_is_trained_on_it(fewer, heldout, tmp_path):
    like = tmp_path / "like"
    done = run_trim(heldout, "--output", like, "--vocabulary-from", fewer)
    assert done.returncode == 0, done.stderr
    assert any(batch.topk_logprobs_MK.isneginf().any() for batch in take(reader(fewer), 3))
    trained = train(write_config(tmp_path, fewer, like, max_steps=20))
    assert trained.returncode == 0, trained.stderr
    student = tmp_path / "student"
    config = json.loads((student / "config.json").read_text())
    assert config["vocab_size"] == len(written(fewer)) == len(AutoTokenizer.from_pretrained(student))
    results = json.loads((student / "evaluation.json").read_text())["languages"]
    assert all(np.isfinite(result["nll"]) for result in results.values())
    frame = pd.read_parquet(like)
    for language, result in results.items():
        rows = frame[frame.language == language]
        right = [(row.topk_ids.reshape(-1, 8)[:, 0] == row.labels).sum() for row in rows.itertuples()]
        assert result["teacher_accuracy"] == pytest.approx(sum(right) / rows.labels.str.len().sum())


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


def test_misuse_is_one_line(predictions, heldout, trimmed, run_pipeline, tmp_path):
    strings = run_pipeline(tmp_path / "s", token_identity="string", top_k=0)
    like = tmp_path / "like"
    shutil.copytree(trimmed[0], like)
    for arguments, message in [
        ((predictions, "--output", f"{predictions}/"), "is also one of the folders to read"),
        ((strings, "--output", trimmed[0], "--vocabulary-from", trimmed[0]), "is also one of the folders to read"),
        ((predictions, "--output", tmp_path / "x", "--json", tmp_path), "is a folder, not a file"),
        ((predictions, "--output", strings), "holds a pipeline run"),
        (
            (predictions, "--output", tmp_path / "x", "--vocabulary-from", strings),
            "its vocabulary is not a part of the vocabulary of these folders",
        ),
        ((predictions, predictions, "--output", tmp_path / "x"), "the same folder is given twice"),
        ((predictions, heldout, "--output", tmp_path / "x"), "listed twice; trim them into separate folders"),
        ((heldout, "--output", trimmed[0], "--vocabulary-from", like), "mergedistill.run is"),
        (
            (predictions, "--output", trimmed[0], "--min-predicted", "1000000"),
            "holds predictions over another vocabulary",
        ),
        ((predictions, "--output", tmp_path / "x", "--min-predicted", "many"), "expected a whole number of 1 or more"),
    ]:
        done = run_trim(*arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_the_workers_of_a_runner_write_the_same(predictions, trimmed, tmp_path):
    # An embedded job server with workers in threads that do not belong to this command.
    options = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")
    done = run("pipeline.trim", predictions, "--output", tmp_path / "t", *options)
    assert done.returncode == 0, done.stderr
    files = {p.relative_to(tmp_path / "t"): p.read_bytes() for p in (tmp_path / "t").rglob("*") if p.is_file()}
    assert files == {p.relative_to(trimmed[0]): p.read_bytes() for p in trimmed[0].rglob("*") if p.is_file()}


def test_an_unknown_option_is_no_option_of_beam(predictions, tmp_path):
    done = run_trim(predictions, "--output", tmp_path / "t", "--min-predcted=3")
    assert done.returncode == 2 and "--min-predcted=3: neither an option of this command" in done.stderr
