"""The dry run: its estimates match the run, it makes its checks, and it writes nothing."""

import json

import pytest
import yaml

from pipeline.config import PipelineConfig
from pipeline.job.launcher import dry_run
from schemas.errors import UserError
from schemas.manifest import read_manifest
from tests.support import world
from tests.support.commands import call, run

# Each test runs the pipeline.
pytestmark = pytest.mark.heavy


def test_dry_run(pipeline_settings, predictions, tmp_path):
    settings = pipeline_settings(tmp_path / "p")
    estimates = {estimate.language: estimate for estimate in dry_run(PipelineConfig.model_validate(settings), [])}
    assert not (tmp_path / "p").exists()
    manifest = read_manifest(str(predictions))
    for record in manifest.languages:
        estimate = estimates[record.language]
        positions = sum(file.masked_positions for file in manifest.files if file.language == record.language)
        # The text is so short that the sample is all of it.
        assert (estimate.records, estimate.rejected, estimate.rows) == (200, sum(record.rejected.values()), record.rows)
        assert estimate.masked_positions == pytest.approx(positions, rel=0.1)
        assert estimate.bytes > 0 and estimate.seconds > 0
        # Two layers of width 16: q, k, v and output, the feed-forward of 32, and attention's two products.
        # Then the head's transform and vocabulary at masked positions.
        vocabulary_size = manifest.teachers[record.teacher].vocabulary_size
        tokens = sum(file.tokens for file in manifest.files if file.language == record.language)
        encoder = 2 * tokens * 2 * (4 * 16 * 16 + 2 * 16 * 32)
        head = 2 * estimate.masked_positions * (16 * 16 + 16 * vocabulary_size)
        assert 0.99 < estimate.flops / (encoder + head) < 1.3


def test_dry_run_of_records_that_its_sample_cuts(pipeline_settings, teachers, tmp_path):
    """The estimate matches the run for long JSON records in many shards."""
    from pipeline.job.launcher import run_pipeline

    lines = world.sentences("en", 400)
    with (tmp_path / "long.jsonl").open("w") as file:
        for number in range(70):
            file.write(json.dumps({"text": " ".join(lines[number * 5 : number * 5 + 60]), "id": number}) + "\n")
    settings = pipeline_settings(tmp_path / "p", shard_bytes=1024) | {
        "teachers": {"t": {"model": str(teachers / "en-wordpiece"), "languages": ["en"], "dtype": "float32"}},
        "text": {"en": {"files": [str(tmp_path / "long.jsonl")], "field": "text"}},
    }
    (estimate,) = dry_run(PipelineConfig.model_validate(settings), [])
    manifest = run_pipeline(PipelineConfig.model_validate(settings), [])
    positions = sum(file.masked_positions for file in manifest.files)
    size = sum(path.stat().st_size for path in (tmp_path / "p").glob("en/*/*.parquet"))
    assert estimate.records == 70 and len(manifest.files) > 60
    assert estimate.rows == pytest.approx(manifest.languages[0].rows, rel=0.15)
    assert estimate.masked_positions == pytest.approx(positions, rel=0.15)
    # The size on disk includes the footers, which are most of such small files.
    assert estimate.bytes < size


def test_dry_run_of_a_shared_language(pipeline_settings, run_pipeline, tmp_path):
    settings = pipeline_settings(tmp_path / "p", shard_bytes=1024)
    settings["teachers"]["en-wordpiece"]["languages"] = {"en": 0.25}
    settings["teachers"]["ru-unigram"]["languages"] = {"ru": "all", "en": 0.75}
    estimates = dry_run(PipelineConfig.model_validate(settings), [])
    manifest = read_manifest(str(run_pipeline(tmp_path / "p", shard_bytes=1024, teachers=settings["teachers"])))
    assert [(estimate.language, estimate.teacher) for estimate in estimates] == [
        (r.language, r.teacher) for r in manifest.languages
    ]
    assert [estimate.records for estimate in estimates if estimate.language == "en"] == [50, 150]
    for estimate, record in zip(estimates, manifest.languages, strict=True):
        # A hash decides how many of the 200 records the share really gets.
        assert estimate.records == pytest.approx(record.records, rel=0.3)
        assert estimate.rows / estimate.records == pytest.approx(record.rows / record.records, rel=0.15)


def test_dry_run_counts_each_copy_once(pipeline_settings, tmp_path):
    flops = []
    for copies in (1, 3):
        settings = pipeline_settings(tmp_path / "p", masking={"copies": copies})
        flops.append(dry_run(PipelineConfig.model_validate(settings), [])[0].flops)
    # Each copy masks other positions.
    assert flops[1] == pytest.approx(3 * flops[0], rel=0.05)


def test_dry_run_checks_what_the_run_would(pipeline_settings, tmp_path):
    (tmp_path / "bad.txt").write_text("the river writes a song\n" * 100 + "\n" * 900)
    settings = pipeline_settings(tmp_path / "p", max_rejected=0.1)
    config = PipelineConfig.model_validate(settings)
    with pytest.raises(UserError, match="bogus"):
        dry_run(config, ["--bogus"])
    with pytest.raises(UserError, match="Dataflow's workers cannot write"):
        dry_run(config, ["--runner=DataflowRunner"])
    remote = PipelineConfig.model_validate(settings | {"output": "gs://bucket/p"})
    with pytest.raises(
        UserError, match=rf"text.en: {settings['text']['en'][0]} is on this machine, .*cannot read; give a URL"
    ):
        dry_run(remote, ["--runner=DataflowRunner"])
    settings["text"]["en"] = [str(tmp_path / "bad.txt")]
    with pytest.raises(UserError, match="900 of a sample of 1,000 records would be rejected"):
        dry_run(PipelineConfig.model_validate(settings), [])


def test_dry_run_from_the_command_line_writes_nothing(pipeline_settings, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(tmp_path / "p")))
    done = run("pipeline", tmp_path / "c.yaml", "--dry-run", "--teraflops", "100")
    assert done.returncode == 0 and "hours at the given 100 teraFLOP/s" in done.stdout, done.stderr
    assert not (tmp_path / "p").exists()
    misspelt = call("pipeline.__main__", tmp_path / "c.yaml", "--dryrun")
    assert misspelt.returncode == 2 and "--dryrun: neither an option of this command" in misspelt.stderr
    assert not (tmp_path / "p").exists()
