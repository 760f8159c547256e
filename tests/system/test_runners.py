"""Every runner that works locally gives the same bytes, and Beam's metrics count them."""

import pytest
import yaml

from pipeline.engine.options import threads_a_process
from tests.support.commands import run
from tests.support.outputs import files

RUNNERS = {
    "processes": ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
    "portable": ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"],
    "one thread": ["--direct_num_workers=1"],
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner_gives_the_same_bytes(runner, predictions, pipeline_settings, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(tmp_path / "p"), sort_keys=False))
    done = run("pipeline", tmp_path / "c.yaml", *RUNNERS[runner])
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "p") == files(predictions)


def test_a_teacher_gone_wrong_is_one_line_from_another_process_too(pipeline_settings, teachers, tmp_path):
    from tests.support.teachers import broken_teacher

    settings = pipeline_settings(tmp_path / "p")
    settings["teachers"]["en-wordpiece"]["model"] = str(broken_teacher(teachers, tmp_path / "broken"))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    done = run("pipeline", tmp_path / "c.yaml", *RUNNERS["processes"])
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert ": teacher 'en-wordpiece' gave a NaN or infinite log-probability in example 'en:" in line


def test_metrics_have_the_names_and_counts_of_the_manifest(predictions, pipeline_settings, tmp_path):
    """A runner shows for each language: rows, tokens, masked positions, records and rejected."""
    import apache_beam as beam

    from pipeline.config import PipelineConfig
    from pipeline.job.launcher import begin
    from pipeline.job.worker import METRICS, PredictUnits
    from schemas.manifest import read_manifest
    from tests.support.checked import checked

    config = PipelineConfig.model_validate(pipeline_settings(tmp_path / "p"))
    prepared = checked(config)
    begin(config, prepared)
    job = beam.Pipeline()
    units = [tuple(unit) for unit in prepared.units]
    _ = job | beam.Create(units) | beam.ParDo(PredictUnits(config, prepared.run, None))
    result = job.run()
    result.wait_until_finish()
    actual = {
        counter.key.metric.name: counter.committed
        for counter in result.metrics().query()["counters"]
        if counter.key.metric.namespace == METRICS
    }
    manifest = read_manifest(str(predictions))
    for record in manifest.languages:
        of_language = [file for file in manifest.files if file.language == record.language]
        assert actual[f"{record.language}/rows"] == record.rows
        assert actual[f"{record.language}/records"] == record.records
        assert actual[f"{record.language}/rejected"] == sum(record.rejected.values())
        assert actual[f"{record.language}/tokens"] == sum(file.tokens for file in of_language)
        assert actual[f"{record.language}/masked_positions"] == sum(file.masked_positions for file in of_language)


def test_local_processes_share_the_cores(monkeypatch):
    from pipeline.engine.options import beam_options

    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert threads_a_process(beam_options(RUNNERS["processes"])) == 4
    assert threads_a_process(beam_options([])) is None
    assert threads_a_process(beam_options(["--runner=DataflowRunner"])) == 1
    one_process = ["--runner=DataflowRunner", "--experiments=no_use_multiple_sdk_containers"]
    assert threads_a_process(beam_options(one_process)) is None
