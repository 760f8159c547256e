"""The launcher: formats, limits and rejects, and one teacher at a time."""

import gc
import gzip
import json
import shutil
import weakref

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.config import PipelineConfig
from pipeline.job import launcher
from pipeline.job.launcher import dry_run, run_pipeline
from pipeline.teachers.model import load_model
from schemas.errors import UserError
from schemas.manifest import read_manifest
from tests.support.commands import call
from tests.support.outputs import files, rows, same
from tests.support.text_files import line_places

# Each test runs the pipeline.
pytestmark = pytest.mark.heavy


def test_formats_give_the_same_rows(english, text, tmp_path):
    """They differ only by the source's name, which is part of the example ids and so affects the masks."""
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
            place, segment, copy = map(int, row.example_id.split(":")[3:])
            unmasked.append((place, segment, copy, ids.tolist()))
        # A record's place differs by format: a byte in text and JSON lines, a row in Parquet.
        order = {place: number for number, place in enumerate(sorted({row[0] for row in unmasked}))}
        labels[name] = sorted((order[place], *row) for place, *row in unmasked)
    assert labels["lines"] == labels["json"] == labels["gz"] == labels["parquet"]


def test_a_limit_reads_so_many_records_evenly_spread(english, text):
    folder = english({"files": [str(text / "en.txt")], "max_records": 20}, shard_bytes=512)
    (record,) = read_manifest(str(folder)).languages
    assert record.records == 20
    places = line_places((text / "en.txt").read_bytes())
    numbers = sorted({places[int(example_id.split(":")[3])] for example_id in rows(folder).example_id})
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
    # With a higher limit it is still the same run.
    (record,) = read_manifest(str(english([str(tmp_path / "en.txt")], max_rejected=0.6))).languages
    assert record.records == record.used + sum(record.rejected.values()) == 25


@pytest.mark.parametrize("command", ["dry run", "run"])
def test_one_teacher_is_held_at_a_time(command, pipeline_settings, tmp_path, monkeypatch):
    """This holds for the launcher too: when it loads a teacher, it holds no earlier one."""
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


def test_the_order_of_the_configuration_does_not_matter(predictions, run_pipeline, pipeline_settings, tmp_path):
    folder = tmp_path / "p"
    shutil.copytree(predictions, folder)
    run_pipeline(folder, text=dict(reversed(pipeline_settings(folder)["text"].items())))
    assert files(folder) == files(predictions)


def test_teachers_and_languages_are_many_to_many(run_pipeline, pipeline_settings, teachers, tmp_path):
    settings = pipeline_settings(tmp_path / "p")
    settings["teachers"]["en-wordpiece"]["languages"] = ["en", "ru"]
    frame = rows(run_pipeline(tmp_path / "p", teachers=settings["teachers"]))
    pairs = set(zip(frame.language, frame.teacher, strict=True))
    assert pairs == {("en", "en-wordpiece"), ("ru", "en-wordpiece"), ("ru", "ru-unigram"), ("hi", "hi-bpe")}
    russian = frame[frame.language == "ru"]
    assert russian.example_id.is_unique and russian.teacher.nunique() == 2


def test_teachers_share_a_language(run_pipeline, pipeline_settings, predictions, tmp_path):
    """Two teachers have shares of 0.7 and 0.3, a third reads everything.

    The first two together read every record once, whatever the shards or workers.
    """
    settings = pipeline_settings(tmp_path / "p")
    for name, languages in (
        ("en-wordpiece", {"en": 0.7}),
        ("ru-unigram", {"en": 0.3, "ru": "all"}),
        ("hi-bpe", ["hi", "en"]),
    ):
        settings["teachers"][name]["languages"] = languages
    folder = run_pipeline(tmp_path / "p", teachers=settings["teachers"])
    manifest = read_manifest(str(folder))
    counts = {record.teacher: record.records for record in manifest.languages if record.language == "en"}
    assert counts["en-wordpiece"] + counts["ru-unigram"] == counts["hi-bpe"] == 200
    assert 110 < counts["en-wordpiece"] < 170

    frame = rows(folder)
    english = frame[frame.language == "en"]
    records = english.example_id.str.split(":").str[3].groupby(english.teacher).agg(set)
    assert not records["en-wordpiece"] & records["ru-unigram"]
    # For the records of its share, a teacher gives the same rows as when it reads everything.
    columns = ["example_id", "input_ids", "masked_positions", "labels"]
    of_share = english[english.teacher == "en-wordpiece"].reset_index(drop=True)
    of_all = rows(predictions)
    of_all = of_all[of_all.example_id.isin(of_share.example_id)].reset_index(drop=True)
    assert len(of_share) > 100 and same(of_share[columns], of_all[columns])

    finer = rows(run_pipeline(tmp_path / "finer", teachers=settings["teachers"], shard_bytes=1024))
    assert same(finer[columns], frame[columns])
    config = PipelineConfig.model_validate(settings | {"output": str(tmp_path / "two")})
    launcher.run_pipeline(config, ["--direct_running_mode=multi_processing", "--direct_num_workers=2"])
    assert files(tmp_path / "two") == files(folder)


def test_dataflow_cannot_write_to_this_machine(pipeline_settings, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(tmp_path / "p"), sort_keys=False))
    done = call("pipeline.__main__", tmp_path / "c.yaml", "--runner=DataflowRunner")
    assert done.returncode == 2 and "where Dataflow's workers cannot write" in done.stderr
    assert not (tmp_path / "p").exists()


def test_a_tokenizer_that_fails_does_so_before_a_teacher_runs(pipeline_settings, tmp_path, monkeypatch):
    """This holds for the run and the dry run, and for any of the tokenizers."""

    def fail(*arguments):
        raise RuntimeError("cannot be fitted")

    def predict(*arguments):
        raise AssertionError("a teacher ran")

    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "out"))
    monkeypatch.setattr("pipeline.job.launcher.process", predict)
    monkeypatch.setattr("pipeline.job.launcher.load_teacher", predict)
    for broken in (
        "pipeline.student_tokenizers.store.default_tokenizer",
        "pipeline.job.prepare.remap_tokenizer",
        "pipeline.job.words.count_words",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            for command in (run_pipeline, dry_run):
                with pytest.raises(UserError, match="cannot be fitted"):
                    command(config, [])
