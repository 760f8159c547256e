"""What the configuration can ask for: formats, packing, whole words, limits; and the audit and the dry run."""

import gc
import gzip
import json
import random
import subprocess
import sys
import threading
import time
import weakref
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForMaskedLM, AutoTokenizer

from pipeline.config import PipelineConfig
from pipeline.job import progress
from pipeline.job.fingerprint import claim_output, describe_run
from pipeline.job.launcher import dry_run, prepare
from pipeline.shard.audit import kl_from_full
from pipeline.shard.sequences import _pack
from pipeline.teachers.cache import Pool
from pipeline.teachers.model import load_model
from schemas.errors import UserError
from schemas.manifest import read_manifest
from schemas.vocabulary import VOCABULARY_FILE
from tests.support import world
from tests.system.test_pipeline import rows


@pytest.fixture
def english(pipeline_settings, teachers, tmp_path):
    """A function that runs the English teacher over given text and returns the output folder."""
    from pipeline.job.launcher import run_pipeline

    def run(text, name: str = "p", teacher: str = "en-wordpiece", **changes):
        settings = pipeline_settings(tmp_path / name, **changes) | {
            "teachers": {teacher: {"model": str(teachers / teacher), "languages": ["en"], "dtype": "float32"}},
            "text": {"en": text},
        }
        run_pipeline(PipelineConfig.model_validate(settings), [])
        return tmp_path / name

    return run


def test_formats_give_the_same_rows(english, text, tmp_path):
    """Only the source's name, which is in the example ids and so in the masks, may tell them apart."""
    lines = (text / "en.txt").read_text().splitlines()
    for name in ("lines", "json", "gz", "parquet"):
        (tmp_path / name).mkdir()
    (tmp_path / "lines" / "a").write_text("\n".join(lines))
    (tmp_path / "json" / "a.jsonl").write_text("\n".join(json.dumps({"body": line, "n": 1}) for line in lines))
    (tmp_path / "gz" / "a.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    pq.write_table(pa.table({"body": lines}), tmp_path / "parquet" / "a.parquet", row_group_size=17)
    labels = {}
    for name in ("lines", "json", "gz", "parquet"):
        frame = rows(english({"files": [str(tmp_path / name)], "field": "body"}, f"out-{name}", shard_bytes=2000))
        assert frame.example_id.is_unique
        unmasked = []
        for row in frame.itertuples():
            ids = row.input_ids.copy()
            ids[row.masked_positions] = row.labels
            unmasked.append((*map(int, row.example_id.split(":")[3:]), ids.tolist()))
        labels[name] = sorted(unmasked)
    assert labels["lines"] == labels["json"] == labels["gz"] == labels["parquet"]


@pytest.fixture
def short_lines(tmp_path):
    """A function that gives a file of short lines of a language, their words unlike those that teachers know."""

    def make(language: str) -> tuple[str, list[str]]:
        source = random.Random(language)
        words = [word for phrase in world.WORDS[language] for word in phrase.split()]
        words += [word[::-1] for word in words]
        lines = [" ".join(source.choices(words, k=source.randint(1, 2))) for _ in range(300)]
        (tmp_path / f"{language}.txt").write_text("\n".join(lines))
        return str(tmp_path / f"{language}.txt"), lines

    return make


def test_packing_loses_no_text_and_fills_the_rows(english, short_lines, teachers):
    path, lines = short_lines("en")
    plain = rows(english([path], "plain", min_length=1))
    folder = english([path], "packed", min_length=1, packing=True, shard_bytes=2**20)
    packed = rows(folder)
    assert packed.example_id.is_unique and packed.input_ids.str.len().max() <= world.MAX_LENGTH
    assert packed.input_ids.str.len().mean() > 1.5 * plain.input_ids.str.len().mean()

    # Between the start and the end that the teacher's tokenizer gives, all lines in their order.
    tokenizer = AutoTokenizer.from_pretrained(teachers / "en-wordpiece")
    own = pd.read_parquet(folder / VOCABULARY_FILE)["en-wordpiece"]
    found = []
    for row in packed.loc[packed.example_id.str.split(":").str[3].astype(int).sort_values().index].itertuples():
        ids = row.input_ids.copy()
        ids[row.masked_positions] = row.labels
        ids = own[ids].tolist()
        assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        found += ids[1:]
    usable = [
        ids for ids in tokenizer(lines, add_special_tokens=False)["input_ids"] if set(ids) - {tokenizer.unk_token_id}
    ]
    assert found == [own_id for ids in usable for own_id in [*ids, tokenizer.sep_token_id]]


@pytest.mark.parametrize(("room", "separator"), [(10, 1), (10, 0), (7, 2)])
def test_pack_is_the_greedy_one(room, separator):
    sizes = np.random.default_rng(room).integers(1, room + 1, 200)
    expected, used = [], room + 1
    for index, size in enumerate(sizes):
        if used + separator + size > room:
            expected.append(index)
            used = size
        else:
            used += separator + size
    assert _pack(sizes, room, separator).tolist() == expected


@pytest.mark.parametrize("teacher", world.TEACHERS)
def test_whole_words_are_masked_whole(english, short_lines, teachers, teacher):
    path, lines = short_lines(world.TEACHERS[teacher])
    masking = {"mlm_probability": 0.3, "whole_words": True}
    folder = english([path], teacher=teacher, masking=masking, min_length=1)
    own = pd.read_parquet(folder / VOCABULARY_FILE)[teacher]
    tokenizer = AutoTokenizer.from_pretrained(teachers / teacher)
    sizes = []
    for row in rows(folder).itertuples():
        encoding = tokenizer(lines[int(row.example_id.split(":")[3])], add_special_tokens=False)
        if len(encoding["input_ids"]) > world.MAX_LENGTH - 2:
            continue
        assert own[row.labels].tolist() == [encoding["input_ids"][p - 1] for p in row.masked_positions]
        words = encoding.word_ids()
        chosen = [words[p - 1] for p in row.masked_positions]
        for word in set(chosen):
            if words.count(word) <= 8:
                assert chosen.count(word) == words.count(word)
                sizes.append(words.count(word))
    assert sum(size > 1 for size in sizes) > 50


def test_a_limit_reads_so_many_records_evenly_spread(english, text):
    folder = english({"files": [str(text / "en.txt")], "max_records": 20}, shard_bytes=512)
    (record,) = read_manifest(str(folder)).languages
    assert record.records == 20
    numbers = sorted({int(each.split(":")[3]) for each in rows(folder).example_id})
    assert set(numbers) <= {10 * n + 9 for n in range(20)} and len(numbers) > 15


def test_too_many_rejects_fail_the_run_before_any_teacher_runs(english, tmp_path):
    (tmp_path / "en.txt").write_text("the river\n" * 150 + "\n" * 150 + "the river writes a song\n" * 100)
    with pytest.raises(UserError, match="text.en: 300 of a sample of 400 records would be rejected, more than max_rej"):
        english([str(tmp_path / "en.txt")], max_rejected=0.6)
    assert not (tmp_path / "p").exists()


def test_too_many_rejects_fail_the_run_at_its_end_and_nothing_is_lost(english, tmp_path):
    (tmp_path / "en.txt").write_text("\n" * 15 + "the river writes a song\n" * 10)
    with pytest.raises(UserError, match=r"text.en: 15 of 25 records were rejected \(15 empty\)"):
        english([str(tmp_path / "en.txt")], max_rejected=0.5)
    assert list((tmp_path / "p" / "en").rglob("*.parquet"))
    # Raising the limit is no other run.
    (record,) = read_manifest(str(english([str(tmp_path / "en.txt")], max_rejected=0.6))).languages
    assert record.records == record.used + sum(record.rejected.values()) == 25


@torch.no_grad()
def test_the_audit_is_what_plain_transformers_say(english, text, teachers):
    """With as many audited rows as there are, each figure is computed again, densely, from the files."""
    folder = english([str(text / "en.txt")], audit_rows=10_000)
    (record,) = read_manifest(str(folder)).languages
    frame = rows(folder)
    own = pd.read_parquet(folder / VOCABULARY_FILE)["en-wordpiece"]
    model = AutoModelForMaskedLM.from_pretrained(teachers / "en-wordpiece").eval()
    kl, kl_exact, tail, correct = [], [], [], []
    for row in frame.itertuples():
        ids = torch.tensor(own[row.input_ids].to_numpy(np.int64))[None]
        full = model(input_ids=ids).logits[0, row.masked_positions.tolist()].double().log_softmax(-1)
        top = torch.tensor(own[row.topk_ids].to_numpy(np.int64)).reshape(-1, 8)
        for stored, found in (
            (torch.tensor(row.topk_logprobs.reshape(-1, 8)).double(), kl),
            (full.gather(1, top), kl_exact),
        ):
            rest = (1 - stored.exp().sum(1, keepdim=True)) / (full.shape[1] - 8)
            kept = rest.log().expand_as(full).scatter(1, top, stored)
            found += (full.exp() * (full - kept)).sum(1).tolist()
        tail += (1 - full.gather(1, top).exp().sum(1)).tolist()
        correct += (top[:, 0].numpy() == own[row.labels].to_numpy()).tolist()
    audit = record.audit
    assert (audit.rows, audit.positions) == (len(frame), len(kl))
    np.testing.assert_allclose(
        [audit.kl, audit.kl_top_k, audit.tail_mass, audit.accuracy],
        [np.mean(kl), np.mean(kl_exact), np.mean(tail), np.mean(correct)],
        atol=1e-5,
    )
    assert 0 <= audit.kl - audit.kl_top_k < 0.001


def test_the_audit_notices_what_is_wrong():
    full = np.log(np.array([[0.5, 0.3, 0.1, 0.06, 0.04]]))
    ids = np.array([[0, 1]])
    right = kl_from_full(full, ids, np.log([[0.5, 0.3]]))
    assert right == pytest.approx(0.1 * np.log(1.5) + 0.06 * np.log(0.9) + 0.04 * np.log(0.6))
    assert kl_from_full(full, ids[:, ::-1], np.log([[0.5, 0.3]])) > right + 0.05
    assert kl_from_full(full, ids, np.log([[0.6, 0.3]])) > right + 0.01


def test_dry_run(pipeline_settings, predictions, tmp_path):
    settings = pipeline_settings(tmp_path / "p")
    estimates = {each.language: each for each in dry_run(PipelineConfig.model_validate(settings), [])}
    assert not (tmp_path / "p").exists()
    manifest = read_manifest(str(predictions))
    for record in manifest.languages:
        each = estimates[record.language]
        positions = sum(file.masked_positions for file in manifest.files if file.language == record.language)
        # The sample is the whole of so little text.
        assert (each.records, each.rejected, each.rows) == (200, sum(record.rejected.values()), record.rows)
        assert each.masked_positions == pytest.approx(positions, rel=0.1)
        assert each.bytes > 0 and each.seconds > 0
        # Two layers of width 16: q, k, v and output, the feed-forward of 32, and attention's two products;
        # the head's transform and its vocabulary at masked positions.
        own = manifest.teachers[record.teacher].vocabulary_size
        tokens = sum(file.tokens for file in manifest.files if file.language == record.language)
        encoder = 2 * tokens * 2 * (4 * 16 * 16 + 2 * 16 * 32)
        head = 2 * each.masked_positions * (16 * 16 + 16 * own)
        assert 0.99 < each.flops / (encoder + head) < 1.3


def test_dry_run_of_records_that_its_sample_cuts(pipeline_settings, teachers, tmp_path):
    """Long JSON records in many shards: the estimate beside the run itself."""
    from pipeline.job.launcher import run_pipeline

    lines = world.sentences("en", 400)
    with (tmp_path / "long.jsonl").open("w") as file:
        for number in range(70):
            file.write(json.dumps({"text": " ".join(lines[number * 5 : number * 5 + 60]), "id": number}) + "\n")
    settings = pipeline_settings(tmp_path / "p", shard_bytes=1024) | {
        "teachers": {"t": {"model": str(teachers / "en-wordpiece"), "languages": ["en"], "dtype": "float32"}},
        "text": {"en": {"files": [str(tmp_path / "long.jsonl")], "field": "text"}},
    }
    (each,) = dry_run(PipelineConfig.model_validate(settings), [])
    found = run_pipeline(PipelineConfig.model_validate(settings), [])
    positions = sum(file.masked_positions for file in found.files)
    size = sum(path.stat().st_size for path in (tmp_path / "p").glob("en/*/*.parquet"))
    assert each.records == 70 and len(found.files) > 60
    assert each.rows == pytest.approx(found.languages[0].rows, rel=0.15)
    assert each.masked_positions == pytest.approx(positions, rel=0.15)
    # Footers included: files this small are hardly more than that.
    assert each.bytes < size


def test_dry_run_counts_each_copy_once(pipeline_settings, tmp_path):
    flops = []
    for copies in (1, 3):
        settings = pipeline_settings(tmp_path / "p", masking={"copies": copies})
        flops.append(dry_run(PipelineConfig.model_validate(settings), [])[0].flops)
    # Other positions are masked in each copy.
    assert flops[1] == pytest.approx(3 * flops[0], rel=0.05)


@pytest.mark.parametrize("command", ["dry run", "run"])
def test_one_teacher_is_held_at_a_time(command, pipeline_settings, tmp_path, monkeypatch):
    """By the launcher, too: when one is loaded, no earlier one is there."""
    import pipeline.job.fingerprint
    import pipeline.teachers.loading
    from pipeline.job.launcher import run_pipeline

    loaded, alive = [], []

    def load(*arguments):
        alive.append(sum(earlier() is not None for earlier in loaded))
        model = load_model(*arguments)
        loaded.append(weakref.ref(model))
        return model

    for module in (pipeline.job.fingerprint, pipeline.teachers.loading):
        monkeypatch.setattr(module, "load_model", load)
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    gc.collect()
    gc.disable()
    try:
        dry_run(config, []) if command == "dry run" else run_pipeline(config, [])
    finally:
        gc.enable()
    assert len(alive) >= 6 and max(alive) == 0


def test_dry_run_checks_what_the_run_would(pipeline_settings, tmp_path):
    (tmp_path / "bad.txt").write_text("the river writes a song\n" * 100 + "\n" * 900)
    settings = pipeline_settings(tmp_path / "p", max_rejected=0.1)
    config = PipelineConfig.model_validate(settings)
    with pytest.raises(UserError, match="bogus"):
        dry_run(config, ["--bogus"])
    with pytest.raises(UserError, match="Dataflow's workers cannot write"):
        dry_run(config, ["--runner=DataflowRunner"])
    settings["text"]["en"] = [str(tmp_path / "bad.txt")]
    with pytest.raises(UserError, match="900 of a sample of 1,000 records would be rejected"):
        dry_run(PipelineConfig.model_validate(settings), [])


def test_dry_run_from_the_command_line_writes_nothing(pipeline_settings, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(tmp_path / "p")))
    command = [sys.executable, "-m", "pipeline", str(tmp_path / "c.yaml"), "--dry-run", "--teraflops", "100"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "hours at 100 teraFLOP/s" in done.stdout, done.stderr
    assert not (tmp_path / "p").exists()
    misspelt = subprocess.run([*command[:4], "--dryrun"], capture_output=True, text=True)
    assert misspelt.returncode == 2 and "--dryrun: no option" in misspelt.stderr
    assert not (tmp_path / "p").exists()


def test_of_two_runs_that_claim_a_folder_at_once_one_gets_it(pipeline_settings, tmp_path):
    prepared = [prepare(PipelineConfig.model_validate(pipeline_settings(tmp_path / "p", seed=seed))) for seed in (1, 2)]
    for attempt in range(10):
        output, refused, barrier = str(tmp_path / str(attempt)), [], threading.Barrier(2)

        def claim(run, output=output, refused=refused, barrier=barrier):
            barrier.wait()
            try:
                claim_output(output, run)
            except UserError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=claim, args=(each.run,)) for each in prepared]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1 and "settings.seed was" in refused[0]


def test_no_more_teachers_are_held_than_allowed():
    pool, lock, held, most = Pool(), threading.Lock(), set(), []

    class Thing:
        def __init__(self, name):
            self.name = name
            with lock:
                held.add(name)
                most.append(len(held))

        def __del__(self):
            with lock:
                held.discard(self.name)

    def work(number):
        for turn in range(20):
            name = (number + turn) % 3
            with pool.use(name, partial(Thing, name), 1) as thing:
                assert thing.name == name
                del thing

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_progress_moves_within_a_shard(pipeline_settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS", 0.01)
    shards = prepare(PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))).shards
    english, hindi = (next(shard for shard in shards if shard.language == name) for name in ("en", "hi"))
    (tmp_path / "p").mkdir()
    with progress.run_progress(str(tmp_path / "p"), [english, hindi]):
        progress.shard_progress(english.path, 300, 400, 40)
        time.sleep(0.3)
    shown = capsys.readouterr().err
    assert "en:  75%" in shown and " 30 rows," in shown and "hi:  75%" not in shown


def test_what_changes_no_row_is_no_part_of_a_run(pipeline_settings, tmp_path):
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    prepared = prepare(config)
    more = config.model_copy(update={"threads": 7, "teachers_in_memory": 3, "max_rejected": 0.1})
    assert describe_run(more, prepared.tokenizers, prepared.vocabulary, {}).settings == prepared.run.settings
