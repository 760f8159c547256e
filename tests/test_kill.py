"""Killed at random moments and run again, the result is that of a run that was left alone."""

import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.test_pipeline import files
from tests.test_training import assert_same_weights, start, steps_of, train, write_config
from trainer.checkpoint import latest_checkpoint


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_the_pipeline_killed(kills, pipeline_settings, run_pipeline, tmp_path):
    # Many small shards, so that kills fall before, between, and within them.
    changes = {"shard_bytes": 1024, "max_length": 20}
    expected = files(run_pipeline(tmp_path / "whole", **changes))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(tmp_path / "p", **changes), sort_keys=False))
    command = [sys.executable, "-m", "pipeline", str(tmp_path / "c.yaml")]
    started = time.monotonic()
    subprocess.run([*command, "--dry-run"], check=True, capture_output=True)
    starting_up = time.monotonic() - started
    source = random.Random(kills)
    unfinished = 0
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(starting_up * source.uniform(0.5, 1.3))
        process.send_signal(signal.SIGKILL)
        unfinished += process.wait() == -signal.SIGKILL
    assert unfinished
    subprocess.run(command, check=True, capture_output=True)
    found = {name: content for name, content in files(tmp_path / "p").items() if not name.endswith(".tmp")}
    assert found == expected


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_the_trainer_killed(kills, predictions, tmp_path):
    """While it starts, trains, and writes checkpoints: one a step, so that kills fall within them."""
    changes = {"steps": 30 * kills, "checkpoint_every": 1, "log_every": 1}
    whole = write_config(tmp_path / "whole", predictions, None, **changes)
    assert train(whole).returncode == 0
    config = write_config(tmp_path / "killed", predictions, None, **changes)
    output = tmp_path / "killed" / "student"
    source = random.Random(kills)
    reached = [0]
    for number in range(kills):
        process = start(config)
        if number % 4 == 3:
            time.sleep(source.uniform(0, 5))
        else:
            while (latest_checkpoint(str(output)) or 0) == reached[-1] and process.poll() is None:
                time.sleep(0.01)
            time.sleep(source.uniform(0, 0.3))
        process.kill()
        process.communicate()
        reached.append(latest_checkpoint(str(output)) or 0)
    assert reached == sorted(reached) and 0 < reached[-1] < 30 * kills
    assert train(config).returncode == 0
    assert_same_weights(tmp_path / "whole" / "student", output)
    assert steps_of(output) == steps_of(tmp_path / "whole" / "student")
