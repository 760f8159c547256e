"""Samples of the tail through both stages: sampled, stored, inspected, trimmed and trained on."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForMaskedLM

from pipeline.trim.folders import trim
from schemas.errors import UserError
from schemas.inspect import inspect_row, summarize
from schemas.manifest import MANIFEST_FILE
from schemas.predictions import open_predictions
from schemas.row_groups import read_row_groups
from schemas.rows import ROW_SCHEMA, row_schema
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import world
from tests.support.damage import edit_manifest, rewrite
from tests.support.outputs import rows, same
from tests.support.training import CONSTANT, assert_same_weights, train, train_student, write_config
from trainer.config import SamplingConfig
from trainer.data.reader import Reader

S = 6


@pytest.fixture(scope="module")
def sampled(run_pipeline, tmp_path_factory):
    """Like the fixture `predictions`, but with samples of the tail. Read only."""
    return run_pipeline(tmp_path_factory.mktemp("sampled") / "p", tail_samples=S, audit_rows=10_000)


def samples_of(frame: pd.DataFrame) -> np.ndarray:
    return np.concatenate(frame.tail_ids.tolist()).reshape(-1, S)


def test_everything_else_is_as_without_samples(predictions, sampled):
    with_samples = rows(sampled)
    assert list(with_samples.columns) == row_schema(S).names
    assert same(rows(predictions), with_samples[ROW_SCHEMA.names])
    assert (with_samples.tail_ids.str.len() == S * with_samples.labels.str.len()).all()


@pytest.mark.parametrize("changes", [{"batch_tokens": 100}, {"shard_bytes": 3000}])
def test_samples_do_not_depend_on_batches_or_shards(changes, sampled, run_pipeline, tmp_path):
    """The exception is a sample on the border between two tokens, which rounding may move."""
    one, other = samples_of(rows(sampled)), samples_of(rows(run_pipeline(tmp_path / "p", tail_samples=S, **changes)))
    assert (one != other).mean() < 1e-3


def test_another_seed_draws_others(sampled, run_pipeline, tmp_path):
    other = rows(run_pipeline(tmp_path / "p", tail_samples=S, seed=6, masking={"mlm_probability": 0.15}))
    one = rows(sampled).set_index("example_id")
    differs = []
    for row in other.itertuples():
        mine = one.loc[row.example_id]
        _, ours, theirs = np.intersect1d(mine.masked_positions, row.masked_positions, return_indices=True)
        differs += (mine.tail_ids.reshape(-1, S)[ours] != row.tail_ids.reshape(-1, S)[theirs]).ravel().tolist()
    assert len(differs) > 500 and np.mean(differs) > 0.8


@pytest.mark.parametrize("teacher", world.TEACHERS)
@torch.no_grad()
def test_samples_and_audit_are_what_plain_transformers_say(teacher, sampled, teachers):
    """No sample is in the top-k, samples are on average as probable as the tail, and the files give the audit's figures."""
    frame = rows(sampled)
    frame = frame[frame.teacher == teacher]
    to_teacher = pd.read_parquet(sampled / VOCABULARY_FILE)[teacher]
    model = AutoModelForMaskedLM.from_pretrained(teachers / teacher).eval()
    excess, variance, estimates, entropies = [], [], [], []
    for row in frame.itertuples():
        ids = torch.tensor(to_teacher[row.input_ids].to_numpy(np.int64))[None]
        full = model(input_ids=ids).logits[0, row.masked_positions.tolist()].double().log_softmax(-1)
        top = torch.tensor(to_teacher[row.topk_ids].to_numpy(np.int64)).reshape(-1, 8)
        drawn = torch.tensor(to_teacher[row.tail_ids].to_numpy(np.int64)).reshape(-1, S)
        assert not (drawn[:, :, None] == top[:, None]).any()
        tail = full.exp().scatter(1, top, 0)
        tail /= tail.sum(1, keepdim=True)
        mean = (tail * full).sum(1)
        excess += (full.gather(1, drawn).mean(1) - mean).tolist()
        variance += (((tail * full**2).sum(1) - mean**2) / S).tolist()
        stored = torch.tensor(row.topk_logprobs.reshape(-1, 8)).double().exp()
        rest = 1 - stored.sum(1)
        estimates += (-(stored * full.gather(1, top)).sum(1) - rest * full.gather(1, drawn).mean(1)).tolist()
        entropies += (-(full.exp() * full).sum(1)).tolist()
    assert abs(np.sum(excess)) < 5 * np.sqrt(np.sum(variance))
    # Other samples, such as uniform ones over the tail, would be far off.
    assert abs(np.mean(variance)) > 0 and np.sqrt(np.sum(variance)) / len(excess) < 0.05
    (record,) = [r for r in open_predictions(str(sampled)).manifests[0].languages if r.teacher == teacher]
    difference = np.subtract(estimates, entropies)
    audit = record.audit
    assert audit.positions == len(difference)
    np.testing.assert_allclose(
        [audit.sampled_error, audit.sampled_bias], [np.abs(difference).mean(), difference.mean()], atol=1e-4
    )
    assert audit.sampled_error > 0
    assert abs(audit.sampled_bias) < 5 * difference.std() / len(difference) ** 0.5 + 1e-3


def test_they_are_shown(sampled):
    opened = open_predictions(str(sampled))
    assert f"top_k 8, tail_samples {S}, at most" in summarize(opened)
    (row,) = next(read_row_groups(opened.files[0])).slice(0, 1).to_pylist()
    shown = [line for line in inspect_row(opened, 0).splitlines() if line.startswith("    tail samples: ")]
    assert len(shown) == len(row["labels"])
    for token in row["tail_ids"][:S]:
        assert opened.vocabulary.tokens[token] in shown[0]


def test_a_folder_without_samples_does_not_mention_them(predictions):
    """So it is byte for byte the same as before samples existed."""
    manifest = (predictions / MANIFEST_FILE).read_text()
    assert "tail_samples" not in manifest and "sampled" not in manifest
    opened = open_predictions(str(predictions))
    assert opened.manifests[0].tail_samples == 0 and "tail_samples" not in summarize(opened)


def test_wrong_samples_are_refused(sampled, predictions, tmp_path):
    folder = shutil.copytree(sampled, tmp_path / "p")
    file = open_predictions(str(folder)).files[0].record
    lists = next(read_row_groups(open_predictions(str(folder)).files[0]))["tail_ids"].to_pylist()

    def refusal() -> str:
        with pytest.raises(UserError) as raised:
            summarize(open_predictions(str(folder)))
        return str(raised.value)

    for wrong, said in (
        (lambda ids: ids[:-1], f"does not have {S} samples for each masked position"),
        (lambda ids: [-1, *ids[1:]], "tail_ids has an id outside the vocabulary of"),
        (lambda ids: [*ids[:-1], 10**6], "tail_ids has an id outside the vocabulary of"),
    ):
        table = pd.read_parquet(folder / file.path)
        changed = [wrong(lists[0]), *(x.tolist() for x in table.tail_ids[1:])]
        rewrite(folder, file.path, tail_ids=changed)
        assert said in refusal()
    edit_manifest(folder, lambda manifest: manifest.update(tail_samples=0))
    assert f"tail_samples is {S}, but the manifest says 0" in refusal()
    edit_manifest(folder, lambda manifest: manifest.update(tail_samples=S, top_k=0))
    assert f"tail_samples is {S}, but with top_k 0" in refusal()


def test_trimmed_they_keep_their_share(sampled, tmp_path):
    trim(open_predictions(str(sampled)), str(tmp_path / "t"), min_predicted=10**9)
    old, new = (rows(folder).set_index("example_id") for folder in (sampled, tmp_path / "t"))
    before, after = (pd.read_parquet(folder / VOCABULARY_FILE).token for folder in (sampled, tmp_path / "t"))
    outside = expected = 0
    for name, a in old.iterrows():
        b = new.loc[name]
        for token, trimmed in zip(a.tail_ids, b.tail_ids, strict=True):
            assert trimmed == -1 or before[token] == after[trimmed]
        # A kept sample becomes -1 with a probability: the share of the dropped predictions in the new tail.
        stored = np.exp(a.topk_logprobs.reshape(-1, 8).astype(float))
        left = np.exp(b.topk_logprobs.reshape(-1, 8).astype(float)).sum(1)
        share = (stored.sum(1) - left) / (1 - left)
        kept = np.isin(before[a.tail_ids], after).reshape(-1, S)
        outside += ((b.tail_ids.reshape(-1, S) < 0) & kept).sum()
        expected += (kept * share[:, None]).sum()
    assert expected > 300 and abs(outside - expected) < 5 * np.sqrt(expected)
    assert all(
        (file.tail_samples, file.manifest.trimmed) == (S, True) for file in open_predictions(str(tmp_path / "t")).files
    )
    assert train(write_config(tmp_path, tmp_path / "t", None, max_steps=5, distillation=SAMPLED)).returncode == 0
    trim(open_predictions(str(tmp_path / "t")), str(tmp_path / "again"))
    assert same(rows(tmp_path / "t"), rows(tmp_path / "again"))


SAMPLED = {"tail": "sampled", "kd_weight": 0.8}


def test_a_student_is_trained_on_them(sampled, heldout, tmp_path):
    output = train_student(tmp_path, sampled, heldout, distillation=SAMPLED)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    kl = [np.mean([row["kl"] for row in line["train"].values()]) for line in lines if "train" in line]
    assert len(kl) == 4 and kl[-1] < kl[0] - 0.1
    # Batches have samples only if the reader asks for them; other tails do not.
    opened = open_predictions(str(sampled))
    read = Reader(opened, SamplingConfig(), 400, 0, tail_samples=S), Reader(opened, SamplingConfig(), 400, 0)
    (with_samples,), (without,) = (next(iter(one)) for one in read)
    assert with_samples.tail_ids_MS.shape == (len(with_samples.labels_M), S)
    assert without.tail_ids_MS.shape == (len(without.labels_M), 0)
    for one in read:
        one.close()


def test_stages_may_have_different_numbers_of_them(sampled, predictions, run_pipeline, tmp_path):
    """A run resumes within either stage; a stage without samples is rejected."""
    fewer = run_pipeline(tmp_path / "fewer", tail_samples=2)
    settings = {"max_steps": 6, "save_steps": 1, "save_total_limit": 10, "optimizer": CONSTANT, "distillation": SAMPLED}
    settings["stages"] = [{"until": 0.5}, {"predictions": str(fewer)}]
    whole = train_student(tmp_path / "whole", sampled, **settings)
    for step in (2, 3, 5):
        output = tmp_path / str(step) / "student"
        shutil.copytree(whole / "checkpoints" / f"{step:08d}", output / "checkpoints" / f"{step:08d}")
        train_student(tmp_path / str(step), sampled, **settings)
        assert_same_weights(whole, output)
    settings["stages"][1] = {"predictions": str(predictions)}
    done = train(write_config(tmp_path / "none", sampled, None, **settings))
    assert done.returncode == 2
    assert f"distillation.tail is sampled, but {predictions} was made with tail_samples: 0" in done.stderr


def test_misuse_is_one_line(sampled, predictions, run_pipeline, pipeline_settings, text, tmp_path):
    done = train(write_config(tmp_path / "a", predictions, None, distillation=SAMPLED))
    assert done.returncode == 2 and not (tmp_path / "a" / "student" / "metrics.jsonl").exists()
    assert f"distillation.tail is sampled, but {predictions} was made with tail_samples: 0" in done.stderr
    tempered = SAMPLED | {"temperature": 2.0}
    done = train(write_config(tmp_path / "b", sampled, None, distillation=tempered))
    assert done.returncode == 2 and "were drawn at temperature 1: set temperature to 1" in done.stderr
    teachers = {"en-again": pipeline_settings(tmp_path)["teachers"]["en-wordpiece"]}
    more = run_pipeline(
        tmp_path / "more", teachers=teachers, text={"en": [str(text / "en.txt")]}, tail_samples=2, extends=str(sampled)
    )
    done = train(write_config(tmp_path / "c", [sampled, more], None, distillation=SAMPLED))
    assert done.returncode == 2
    assert f"{more}: tail_samples is 2, but in {sampled} it is {S}; with distillation.tail: sampled, all" in done.stderr
    # Another tail does not read the samples.
    assert train(write_config(tmp_path / "d", [sampled, more], None, max_steps=5)).returncode == 0
    with pytest.raises(UserError, match=f"tail_samples is {S}, but in .*more it is 2; trim them into separate folders"):
        trim(open_predictions(str(sampled), str(more)), str(tmp_path / "t"))
    assert MANIFEST_FILE not in [path.name for path in tmp_path.glob("t/*")]
