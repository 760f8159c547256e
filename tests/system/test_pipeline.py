"""Stage one as a whole: rejects, reruns, several teachers, and what does not change the rows."""

import json
import shutil

import pytest

from pipeline.config import PipelineConfig
from pipeline.job.plan import plan_shards, plan_text
from schemas.errors import UserError
from schemas.manifest import read_manifest
from tests.support.outputs import files, rows, same
from tests.support.teachers import broken_teacher


def test_the_same_run_gives_the_same_bytes(predictions, run_pipeline, tmp_path):
    assert files(run_pipeline(tmp_path / "again")) == files(predictions)


def test_shards_do_not_decide_the_masks(predictions, run_pipeline, tmp_path):
    """Another cut of the text gives the same inputs and targets; only batches, so rounding, may differ."""
    columns = ["example_id", "input_ids", "masked_positions", "labels"]
    assert same(rows(run_pipeline(tmp_path / "one", shard_bytes=2**20))[columns], rows(predictions)[columns])


def test_a_rerun_does_only_what_is_missing(predictions, run_pipeline, tmp_path):
    folder = tmp_path / "p"
    shutil.copytree(predictions, folder)
    manifest = read_manifest(str(folder))
    lost, kept = manifest.files[0].path, manifest.files[1].path
    (folder / lost).unlink()
    (folder / "_manifest.json").unlink()
    before = (folder / kept).stat().st_mtime_ns
    run = json.loads((folder / "_run.json").read_text())
    run_pipeline(folder)
    assert (folder / kept).stat().st_mtime_ns == before
    assert json.loads((folder / "_run.json").read_text()) == run
    assert files(folder) == files(predictions)


def test_the_order_of_the_configuration_does_not_matter(predictions, run_pipeline, pipeline_settings, tmp_path):
    folder = tmp_path / "p"
    shutil.copytree(predictions, folder)
    run_pipeline(folder, text=dict(reversed(pipeline_settings(folder)["text"].items())))
    assert files(folder) == files(predictions)


def test_threads_give_the_same_bytes(predictions, pipeline_settings, tmp_path):
    from pipeline.job.launcher import run_pipeline

    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    run_pipeline(config, ["--direct_running_mode=multi_threading", "--direct_num_workers=4"])
    assert files(tmp_path / "p") == files(predictions)


def test_a_teacher_gone_wrong_stops_the_run_with_one_line(pipeline_settings, teachers, tmp_path):
    from pipeline.job.launcher import run_pipeline

    settings = pipeline_settings(tmp_path / "p")
    settings["teachers"]["en-wordpiece"]["model"] = str(broken_teacher(teachers, tmp_path / "broken"))
    with pytest.raises(
        UserError, match=r"^teacher 'en-wordpiece' gave a NaN[^\n\[]* in example 'en:en-wordpiece:en.txt:"
    ):
        run_pipeline(PipelineConfig.model_validate(settings), [])
    assert not (tmp_path / "p" / "_manifest.json").exists()


def test_another_run_into_the_same_folder_is_refused(predictions, run_pipeline, tmp_path):
    folder = tmp_path / "p"
    shutil.copytree(predictions, folder)
    with pytest.raises(UserError, match="settings.seed was 5, now 6"):
        run_pipeline(folder, seed=6)
    assert files(folder) == files(predictions)


def test_unusable_lines_are_set_aside_and_counted(pipeline_settings, teachers, tmp_path):
    from pipeline.job.launcher import run_pipeline

    lines = [
        b"the river writes a 1999 song.",
        b"",
        b"\xff\xfe broken",
        b"  ",
        b"a",
        b"my house remembers (the sea)",
        "我 我 我 我 我".encode(),
    ]
    (tmp_path / "en.txt").write_bytes(b"\n".join(lines))
    settings = pipeline_settings(tmp_path / "p") | {
        "teachers": {"en-wordpiece": {"model": str(teachers / "en-wordpiece"), "languages": ["en"]}},
        "text": {"en": [str(tmp_path / "en.txt")]},
    }
    (record,) = run_pipeline(PipelineConfig.model_validate(settings), []).languages
    assert (record.records, record.used) == (7, 2)
    assert record.rejected == {"empty": 2, "invalid UTF-8": 1, "nothing to mask": 1, "too short": 1}
    (path,) = (tmp_path / "p" / "_rejects").rglob("*.jsonl")
    rejects = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(reject["record"], reject["reason"]) for reject in rejects] == [
        (1, "empty"), (2, "invalid UTF-8"), (3, "empty"), (4, "too short"), (6, "nothing to mask"),
    ]  # fmt: skip
    assert {reject["source"] for reject in rejects} == {"en.txt"}
    assert {example_id.split(":")[3] for example_id in rows(tmp_path / "p").example_id} == {"0", "5"}


def test_teachers_and_languages_are_many_to_many(run_pipeline, pipeline_settings, teachers, tmp_path):
    settings = pipeline_settings(tmp_path / "p")
    settings["teachers"]["en-wordpiece"]["languages"] = ["en", "ru"]
    frame = rows(run_pipeline(tmp_path / "p", teachers=settings["teachers"]))
    pairs = set(zip(frame.language, frame.teacher, strict=True))
    assert pairs == {("en", "en-wordpiece"), ("ru", "en-wordpiece"), ("ru", "ru-unigram"), ("hi", "hi-bpe")}
    russian = frame[frame.language == "ru"]
    assert russian.example_id.is_unique and russian.teacher.nunique() == 2


def test_copies_are_masked_differently(run_pipeline, tmp_path):
    masking = {"mlm_probability": 0.3, "copies": 3}
    frame = rows(run_pipeline(tmp_path / "p", masking=masking, top_k=0))
    copies = frame.example_id.str.rsplit(":", n=1)
    frame["segment"], frame["copy"] = copies.str[0], copies.str[1].astype(int)
    assert (frame.groupby("segment").copy.apply(sorted).map(tuple) == (0, 1, 2)).all()
    places = frame.groupby("segment").masked_positions.apply(lambda column: len({tuple(x) for x in column}))
    assert places.mean() > 2
    # top_k: 0 runs no teacher, and says nothing in its name.
    assert (frame.topk_ids.str.len() == 0).all() and (frame.label_logprobs.str.len() == 0).all()


def test_shards_are_small_descriptions(pipeline_settings, tmp_path):
    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    shards = plan_shards(config, plan_text(config))
    assert len({shard.path for shard in shards}) == len(shards) > 3
    assert all(len(repr(shard)) < 1000 for shard in shards)


def test_any_fsspec_url(pipeline_settings, text, predictions):
    """Text and output in another filesystem, here fsspec's own in memory: the same rows."""
    import fsspec

    from pipeline.job.launcher import run_pipeline
    from schemas.manifest import open_predictions
    from tests.support.readers import reader, take

    memory = fsspec.filesystem("memory")
    memory.put(f"{text}/", "/text/", recursive=True)
    settings = pipeline_settings("memory://out")
    settings["text"] = {language: [f"memory://text/{language}.txt"] for language in settings["text"]}
    manifest = run_pipeline(PipelineConfig.model_validate(settings), [])
    assert [manifest] == open_predictions("memory://out").manifests == open_predictions(str(predictions)).manifests
    ours, theirs = take(reader("memory://out"), 3), take(reader(predictions), 3)
    assert all((a.input_ids_BL == b.input_ids_BL).all() for a, b in zip(ours, theirs, strict=True))
