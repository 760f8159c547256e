"""Runs that are killed at random moments and rerun give the same result as an undisturbed run."""

import random
import time

import pytest
import yaml

from tests.support.commands import SECONDS, run_python, start_python, wait_until
from tests.support.outputs import files
from tests.support.training import assert_same_weights, start, steps_of, train, write_config
from trainer.artifacts.checkpoint import latest_checkpoint


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_the_pipeline_killed(kills, pipeline_settings, run_pipeline, tmp_path):
    # Many small shards, so that kills come before, between, and within them.
    changes = {"shard_bytes": 1024, "max_length": 20}
    expected = files(run_pipeline(tmp_path / "whole", **changes))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(tmp_path / "p", **changes), sort_keys=False))
    command = ["-m", "pipeline", tmp_path / "c.yaml"]
    source = random.Random(kills)
    written = [0]

    def count() -> int:
        return len(list((tmp_path / "p").glob("*/*/*.parquet")))

    for number in range(kills):
        process = start_python(*command)
        if number % 4 == 3:
            time.sleep(source.uniform(0, 8))
        else:
            # Also stop waiting when it is done: it may finish before it is killed.
            wait_until(lambda process=process: count() > written[-1] or process.poll() is not None, process)
            time.sleep(source.uniform(0, 0.05))
        process.kill()
        process.communicate(timeout=SECONDS)
        written.append(count())
    assert written == sorted(written) and any(
        0 < some < len(list((tmp_path / "whole").glob("*/*/*.parquet"))) for some in written
    )
    assert run_python(*command).returncode == 0
    actual = {name: content for name, content in files(tmp_path / "p").items() if not name.endswith(".tmp")}
    assert actual == expected


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_the_trainer_killed(kills, predictions, tmp_path):
    """Kills it while it starts, trains, and writes checkpoints: one per step, so that some kills come during the write."""
    changes = {"max_steps": 30 * kills, "save_steps": 1, "logging_steps": 1}
    whole = write_config(tmp_path / "whole", predictions, None, **changes)
    assert train(whole).returncode == 0
    config = write_config(tmp_path / "killed", predictions, None, **changes)
    output = tmp_path / "killed" / "student"
    source = random.Random(kills)
    reached = [0]

    def step() -> int:
        return latest_checkpoint(str(output)) or 0

    for number in range(kills):
        process = start(config)
        if number % 4 == 3:
            time.sleep(source.uniform(0, 5))
        else:
            wait_until(lambda process=process: step() > reached[-1] or process.poll() is not None, process)
            time.sleep(source.uniform(0, 0.3))
        process.kill()
        process.communicate(timeout=SECONDS)
        reached.append(step())
    assert reached == sorted(reached) and 0 < reached[-1] < 30 * kills
    assert train(config).returncode == 0
    assert_same_weights(tmp_path / "whole" / "student", output)
    assert steps_of(output) == steps_of(tmp_path / "whole" / "student")
