"""Runs in parts without Beam's runners, and Beam's workers on other machines: the same bytes, whichever process dies."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from schemas.storage import list_files, read_bytes, write_bytes
from tests.support import gcs
from tests.support.commands import SECONDS, call, wait_until
from tests.support.outputs import files
from tests.support.paths import ROOT

BUCKET = f"gs://{gcs.BUCKET}"
# These files depend on the storage of the text, or on the folder of the teachers.
OF_THE_STORAGE = ("_text/", "_run.json", "_checked/")


def write_settings(folder: Path, settings: dict) -> Path:
    (folder / "c.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return folder / "c.yaml"


def test_parts_give_the_bytes_of_one_run(predictions, pipeline_settings, tmp_path):
    config = write_settings(tmp_path, pipeline_settings(tmp_path / "p"))
    for part in ("2/3", "1/3"):
        done = call("pipeline.__main__", config, "--part", part)
        assert done.returncode == 0 and f"part {part[0]} of 3 is done" in done.stdout, done.stderr
    early = call("pipeline.__main__", config, "--finish")
    assert early.returncode == 2 and "units of work are not done" in early.stderr
    assert not (tmp_path / "p" / "_manifest.json").exists()
    assert call("pipeline.__main__", config, "--part", "3/3").returncode == 0
    done = call("pipeline.__main__", config, "--finish")
    assert done.returncode == 0 and "merged tokens" in done.stdout, done.stderr
    assert files(tmp_path / "p") == files(predictions)
    # A plain run can continue a run in parts.
    (tmp_path / "p" / "_units" / "en" / "en-wordpiece" / "000001.arrow").unlink()
    (tmp_path / "p" / "_manifest.json").unlink()
    assert call("pipeline.__main__", config).returncode == 0
    assert files(tmp_path / "p") == files(predictions)


# Each process prints which of the slow preparations it ran.
PROBE = """
import os, sys
import pipeline.job.fingerprint, pipeline.student_tokenizers.store, pipeline.text.survey
from pipeline.__main__ import main

def noting(module, name):
    original = getattr(module, name)
    def call(*arguments):
        # Not print, which loses lines of threads.
        os.write(1, f"did {name}\\n".encode())
        return original(*arguments)
    setattr(module, name, call)

noting(pipeline.job.fingerprint, "load_model")
noting(pipeline.student_tokenizers.store, "default_tokenizer")
noting(pipeline.text.survey, "survey_file")
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_parts_that_start_at_once_check_once(where, predictions, pipeline_settings, request, tmp_path):
    """Only one of them reads the text and tests the teachers; none fits a tokenizer."""
    folders = [tmp_path] * 2
    if where == "bucket":
        folders = [request.getfixturevalue("machines")[0]] * 2
    else:
        write_settings(tmp_path, pipeline_settings(tmp_path / "p"))
    parts = [
        subprocess.Popen(
            [sys.executable, "-c", PROBE, "c.yaml", "--part", f"{number}/2"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, folder in enumerate(folders, 1)
    ]
    said = []
    for part in parts:
        out, err = part.communicate(timeout=SECONDS)
        assert part.returncode == 0, err
        said.append([line for line in out.splitlines() if line.startswith("did ")])
    of_first = ["did load_model"] * 3 + ["did survey_file"] * 3 * (where == "folder")
    assert sorted(said) == [[], of_first]
    if where == "folder":
        assert call("pipeline.__main__", tmp_path / "c.yaml", "--finish").returncode == 0
        assert files(tmp_path / "p") == files(predictions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "0/3"], "--part 0/3: expected I/N"),
        (["--part", "4/3"], "--part 4/3: expected I/N"),
        (["--part", "x"], "--part x: expected I/N"),
        (["--finish"], "no part of this run has begun"),
        (["--part", "1/3", "--finish"], "exclude each other"),
        (["--part", "1/3", "--direct_num_workers=2"], "--direct_num_workers=2: not an option of --part"),
    ],
)
def test_wrong_parts_are_refused(arguments, message, pipeline_settings, tmp_path):
    done = call("pipeline.__main__", write_settings(tmp_path, pipeline_settings(tmp_path / "p")), *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "p").exists()


def of_machines(pipeline_settings: Callable[..., dict]) -> dict:
    """Returns the special settings of the machines' configuration: small shards, and teachers in the working directory."""
    teachers = pipeline_settings("")["teachers"]
    relative = {
        name: {**teacher, "model": f"teachers/{Path(teacher['model']).name}"} for name, teacher in teachers.items()
    }
    return {"shard_bytes": 2048, "teachers": relative}


@pytest.fixture(scope="module")
def of_one_run(teachers, pipeline_settings, run_pipeline, tmp_path_factory) -> dict[str, bytes]:
    """The output of an undisturbed run of the machines' configuration."""
    folder = tmp_path_factory.mktemp("one-run")
    (folder / "teachers").symlink_to(teachers)
    with chdir(folder):
        actual = files(run_pipeline(folder / "whole", **of_machines(pipeline_settings)))
    return {name: content for name, content in actual.items() if not name.startswith(OF_THE_STORAGE)}


@pytest.fixture
def machines(text, teachers, pipeline_settings, tmp_path):
    """Three working directories, each with teachers and a configuration, which share only a bucket with the text."""
    settings = pipeline_settings(f"{BUCKET}/out", **of_machines(pipeline_settings))
    with gcs.bucket():
        for language in settings["text"]:
            url = f"{BUCKET}/text/{language}.txt"
            write_bytes(url, (text / f"{language}.txt").read_bytes())
            settings["text"][language] = [url]
        folders = [tmp_path / name for name in ("one", "two", "three")]
        for folder in folders:
            folder.mkdir()
            subprocess.run(["cp", "-r", str(teachers), str(folder / "teachers")], check=True)
            write_settings(folder, settings)
        yield folders


def start_part(folder: Path, part: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "c.yaml", "--part", part],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(folder: str) -> dict[str, bytes]:
    names = [name for name in list_files(folder) if not name.startswith(OF_THE_STORAGE)]
    return {name: read_bytes(f"{folder}/{name}") for name in names}


def units_done() -> int:
    return sum(name.startswith("_units/") for name in list_files(f"{BUCKET}/out"))


@pytest.mark.slow
def test_a_part_that_is_killed_and_one_that_is_frozen(machines, of_one_run, monkeypatch):
    """The killed part is restarted; another process does the frozen one's units, and it changes nothing when it resumes."""
    killed, frozen = (start_part(folder, part) for folder, part in zip(machines[:2], ("1/2", "2/2"), strict=True))

    wait_until(lambda: units_done() > 3, killed)
    os.kill(frozen.pid, signal.SIGSTOP)
    killed.kill()
    killed.communicate(timeout=SECONDS)
    for folder, part in ((machines[1], "1/2"), (machines[0], "2/2")):
        again = start_part(folder, part)
        assert again.wait(SECONDS) == 0, again.communicate()[1]
    before = written(f"{BUCKET}/out")
    os.kill(frozen.pid, signal.SIGCONT)
    assert frozen.wait(SECONDS) == 0, frozen.communicate()[1]
    assert written(f"{BUCKET}/out") == before
    monkeypatch.chdir(machines[0])
    done = call("pipeline.__main__", "c.yaml", "--finish")
    assert done.returncode == 0, done.stderr
    assert written(f"{BUCKET}/out") == of_one_run


@contextmanager
def pool_in(folder: Path) -> Iterator[SimpleNamespace]:
    """Yields a pool of workers in a working directory: its process, and the options of a launcher that uses it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"],
        cwd=folder,
        # The pool starts its workers as `python`.
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
    )
    options = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=EXTERNAL"]

    def is_listening() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(is_listening, process)
        yield SimpleNamespace(process=process, options=[*options, f"--environment_config=127.0.0.1:{port}"])
    finally:
        for number in [process.pid, *workers_in(folder)]:
            os.kill(number, signal.SIGKILL)
        process.wait()


def workers_in(folder: Path) -> list[int]:
    """Returns the worker processes with this working directory."""
    actual = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if (
                entry.name.isdigit()
                and (entry / "cwd").samefile(folder)
                and b"SdkHarness" in (entry / "cmdline").read_bytes()
            ):
                actual.append(int(entry.name))
    return actual


def test_beams_workers_elsewhere(machines, of_one_run, monkeypatch):
    """A pool of workers in another working directory, which shares only the bucket with the launcher."""
    monkeypatch.chdir(machines[0])
    with pool_in(machines[1]) as pool:
        done = call("pipeline.__main__", "c.yaml", *pool.options)
    assert done.returncode == 0, done.stderr
    assert written(f"{BUCKET}/out") == of_one_run


def start_with(pool: SimpleNamespace, folder: Path) -> subprocess.Popen:
    """Starts a launcher in `folder` that waits five seconds for a silent worker."""
    program = """
import sys
import pipeline.engine.worker_pools
from schemas.process import run_command
pipeline.engine.worker_pools.SILENCE_SECONDS = 5.0
run_command("pipeline.__main__")
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, "c.yaml", *pool.options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds the workers in /proc")
def test_of_beams_workers_elsewhere_one_is_frozen_and_one_killed(machines, of_one_run):
    """Each launcher ends with a one-line error, another does the rest, and the frozen worker changes nothing on resuming."""
    with pool_in(machines[1]) as pool, pool_in(machines[2]) as other_pool:
        first = start_with(pool, machines[0])
        wait_until(lambda: units_done() > 1, first)
        frozen = [pool.process.pid, *workers_in(machines[1])]
        assert len(frozen) > 1
        for process in frozen:
            os.kill(process, signal.SIGSTOP)
        before = units_done()
        second = start_with(other_pool, machines[0])
        wait_until(lambda: units_done() > before, second)
        for worker in workers_in(machines[2]):
            os.kill(worker, signal.SIGKILL)
        for launcher, fault in ((first, "has not answered for 5 s"), (second, "died or lost its connection")):
            errors = launcher.communicate(timeout=60)[1]
            assert launcher.returncode == 2 and "Traceback" not in errors, errors
            assert errors.count("error: a worker of the pool at 127.0.0.1:") == 1 and fault in errors, errors
        third = start_with(other_pool, machines[0])
        assert third.wait(SECONDS) == 0, third.communicate()[1]
        assert written(f"{BUCKET}/out") == of_one_run
        for process in frozen:
            os.kill(process, signal.SIGCONT)
        wait_until(lambda: not workers_in(machines[1]), pool.process)
        assert written(f"{BUCKET}/out") == of_one_run
