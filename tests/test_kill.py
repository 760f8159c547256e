"""Killed at random moments and run again, the result is that of a run that was left alone."""

import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.test_pipeline import files


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill(kills, pipeline_settings, run_pipeline, tmp_path):
    # Many small shards, so that kills fall before, between, and within them.
    changes = {"shard_bytes": 1024, "max_length": 20}
    expected = files(run_pipeline(tmp_path / "whole", **changes))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(pipeline_settings(tmp_path / "p", **changes), sort_keys=False))
    command = [sys.executable, "-m", "pipeline", str(tmp_path / "c.yaml")]
    started = time.monotonic()
    subprocess.run([*command[:4], str(tmp_path / "c.yaml"), "--dry-run"], check=True, capture_output=True)
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
