"""Runs that start twice, get a signal or lose a worker, in real processes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.support.commands import SECONDS, start_python, wait_until
from tests.support.outputs import files
from tests.support.training import has_logged, start, write_config
from trainer.__main__ import main


def workers_of(folder: Path) -> list[int]:
    """Returns Beam's worker processes that were started with this folder as TMPDIR, which marks them."""
    marked = []
    for entry in Path("/proc").iterdir():
        try:
            is_worker = entry.name.isdigit() and b"pipeline.engine.local_workers" in (entry / "cmdline").read_bytes()
            if is_worker and f"TMPDIR={folder}".encode() in (entry / "environ").read_bytes():
                marked.append(int(entry.name))
        except OSError:
            continue
    return marked


def begin(settings: dict, folder: Path, *options: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    (folder / "c.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return start_python("-m", "pipeline", folder / "c.yaml", *options, TMPDIR=str(folder))


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the workers in /proc")


@needs_proc
def test_a_worker_process_that_dies_ends_the_run_and_a_rerun_goes_on(
    pipeline_settings, run_pipeline, predictions, tmp_path
):
    settings = pipeline_settings(tmp_path / "p")
    process = begin(settings, tmp_path / "t", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    wait_until(lambda: len(workers_of(tmp_path / "t")) == 2, process)
    os.kill(workers_of(tmp_path / "t")[0], signal.SIGKILL)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and "Traceback" not in errors, errors
    assert errors.count("error: a worker process died (SIGKILL), probably because memory ran out") == 1
    assert not workers_of(tmp_path / "t")
    assert files(run_pipeline(tmp_path / "p")) == files(predictions)


@needs_proc
def test_a_signal_ends_the_run_and_its_workers(pipeline_settings, tmp_path):
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    codes = {signal.SIGINT: 130, signal.SIGTERM: 75}
    # Both start at once, since that takes seconds.
    runs = {
        number: begin(pipeline_settings(tmp_path / f"p{number}"), tmp_path / f"t{number}", *options) for number in codes
    }
    for number, process in runs.items():
        wait_until(lambda number=number: len(workers_of(tmp_path / f"t{number}")) == 2, process)
        process.send_signal(number)
        errors = process.communicate(timeout=SECONDS)[1]
        assert process.returncode == codes[number] and "Traceback" not in errors, errors
        # A worker of Beam may log at its end that the connection is gone.
        assert errors.splitlines().count("stopped; run the same command again to go on") == 1, errors
    deadline = time.monotonic() + 30
    while any(workers_of(tmp_path / f"t{number}") for number in codes):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_of_two_trainers_the_second_is_refused_also_when_the_first_is_dead(predictions, tmp_path, capsys):
    config = write_config(tmp_path, predictions, None, max_steps=100_000, save_steps=100_000, logging_steps=1)
    first = start(config)
    wait_until(lambda: has_logged(tmp_path / "student"), first)
    other = write_config(
        tmp_path / "other", predictions, None, output=str(tmp_path / "student"), seed=5, max_steps=100_000
    )
    assert main([str(other)]) == 2
    assert f"is being written by process {first.pid} on " in capsys.readouterr().err
    first.kill()
    first.communicate(timeout=SECONDS)
    # The folder has no checkpoint yet, but still belongs to the first run.
    assert main([str(other)]) == 2
    assert "holds another run (seed was 0, now 5)" in capsys.readouterr().err
