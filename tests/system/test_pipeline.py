"""Stage one as a whole: rejects, reruns, several teachers, and what does not change the rows."""

import json
import shutil

from pipeline.config import PipelineConfig
from schemas.manifest import read_manifest
from tests.support.outputs import files, rows, same


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


def test_threads_give_the_same_bytes(predictions, pipeline_settings, tmp_path):
    from pipeline.job.launcher import run_pipeline

    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    run_pipeline(config, ["--direct_running_mode=multi_threading", "--direct_num_workers=4"])
    assert files(tmp_path / "p") == files(predictions)


def test_any_fsspec_url(pipeline_settings, text, predictions):
    """Text and output in another filesystem, here fsspec's own in memory: the same rows."""
    import fsspec

    from pipeline.job.launcher import run_pipeline
    from schemas.predictions import open_predictions
    from tests.support.readers import reader, take

    memory = fsspec.filesystem("memory")
    memory.put(f"{text}/", "/text/", recursive=True)
    settings = pipeline_settings("memory://out")
    settings["text"] = {language: [f"memory://text/{language}.txt"] for language in settings["text"]}
    manifest = run_pipeline(PipelineConfig.model_validate(settings), [])
    assert [manifest] == open_predictions("memory://out").manifests == open_predictions(str(predictions)).manifests
    ours, theirs = take(reader("memory://out"), 3), take(reader(predictions), 3)
    assert all((a.input_ids_BL == b.input_ids_BL).all() for a, b in zip(ours, theirs, strict=True))
