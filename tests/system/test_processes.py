"""Commands that are doubled, signalled or starved, in real processes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.support.commands import SECONDS, run, start_python, wait_until
from tests.support.outputs import files
from tests.support.training import has_logged, start, write_config
from trainer.__main__ import main


def workers_of(folder: Path) -> list[int]:
    """Processes of Beam's workers that were started with this folder's TMPDIR, which marks them."""
    marked = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"pipeline.job.local_workers" in (entry / "cmdline").read_bytes():
                if f"TMPDIR={folder}".encode() in (entry / "environ").read_bytes():
                    marked.append(int(entry.name))
        except OSError:
            continue
    return marked


def begin(settings: dict, folder: Path, *options: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    (folder / "c.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return start_python("-m", "pipeline", folder / "c.yaml", *options, TMPDIR=str(folder))


def run_module(program: str, folder: Path, before: str = "") -> subprocess.Popen:
    """`program`, a module that has `main`, run as commands are."""
    (folder / "program.py").write_text(program)
    command = f"{before}\nimport sys; sys.path.append({str(folder)!r})\n"
    command += "from schemas.process import run_command; run_command('program')"
    return start_python("-c", command)


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
    assert errors.count("error: a worker process died (SIGKILL), probably since memory was used up") == 1
    assert not workers_of(tmp_path / "t")
    assert files(run_pipeline(tmp_path / "p")) == files(predictions)


@needs_proc
def test_a_signal_ends_the_run_and_its_workers(pipeline_settings, tmp_path):
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    codes = {signal.SIGINT: 130, signal.SIGTERM: 75}
    # Both at once, since they take seconds to start.
    runs = {
        number: begin(pipeline_settings(tmp_path / f"p{number}"), tmp_path / f"t{number}", *options) for number in codes
    }
    for number, process in runs.items():
        wait_until(lambda number=number: len(workers_of(tmp_path / f"t{number}")) == 2, process)
        process.send_signal(number)
        errors = process.communicate(timeout=10)[1]
        assert process.returncode == codes[number] and "Traceback" not in errors, errors
        # Beam may say in a worker, at its last, that the connection is gone.
        assert errors.splitlines().count("stopped; run the same command again to go on") == 1, errors
    deadline = time.monotonic() + 30
    while any(workers_of(tmp_path / f"t{number}") for number in codes):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("work", ["while True: pass", "time.sleep(60)", "threading.Lock().acquire(), lock.acquire()"])
def test_nothing_swallows_a_signal(number, code, work, tmp_path):
    program = f"""
import threading, time
def main(arguments):
    lock = threading.Lock()
    lock.acquire()
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("begun", flush=True)
    while True:
        try:
            {work}
        except BaseException:
            pass
"""
    process = run_module(program, tmp_path)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    assert process.communicate(timeout=5)[1].strip() == "stopped; run the same command again to go on"
    assert process.returncode == code


def test_a_bug_ends_the_process_whatever_its_threads_do(tmp_path):
    program = """
import threading, time
def main(arguments):
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise ValueError("a bug")
"""
    process = run_module(program, tmp_path)
    assert process.communicate(timeout=10)[1].endswith("ValueError: a bug\n") and process.returncode == 1


def test_a_signal_ends_a_command_whose_output_nobody_reads(tmp_path):
    program = """
import time
def main(arguments):
    print("begun", flush=True)
    time.sleep(60)
"""
    process = run_module(program, tmp_path)
    assert process.stdout.readline() == "begun\n"
    process.stdout.close()
    process.stderr.close()
    process.terminate()
    assert process.wait(timeout=10) == 75


@pytest.mark.parametrize(
    "module", ["pipeline", "pipeline.trim", "pipeline.drift", "trainer", "trainer.export", "schemas"]
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_during_the_imports(number, code, module, tmp_path):
    hook = f"""
import os, sys, time
class Signalling:
    def find_spec(self, name, *_):
        if name in ("numpy", "pydantic"):
            os.kill(os.getpid(), {number})
            time.sleep(60)
sys.meta_path.insert(0, Signalling())
"""
    (tmp_path / "sitecustomize.py").write_text(hook)
    arguments = ("inspect", "--help") if module == "schemas" else ("--help",)
    done = run(module, *arguments, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr.strip()) == (code, "stopped; run the same command again to go on")


def test_what_was_ignored_from_the_start_still_is(tmp_path):
    """As under nohup."""
    program = """
import os, signal, time
def main(arguments):
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.3)
    return 7
"""
    process = run_module(program, tmp_path, "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.communicate(timeout=SECONDS)
    assert process.returncode == 7


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
    # It has no checkpoint yet, and still is the first's.
    assert main([str(other)]) == 2
    assert "holds another run (seed was 0, now 5)" in capsys.readouterr().err
