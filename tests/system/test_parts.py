"""A run in parts, without Beam's runners, and Beam's workers on other machines: the same bytes, whoever dies on the way."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from schemas.storage import list_files, read_bytes, write_bytes
from tests.support import gcs
from tests.support.commands import SECONDS, call, wait_until
from tests.support.outputs import files
from tests.support.paths import ROOT

BUCKET = f"gs://{gcs.BUCKET}"
# What a storage says of text, or a folder of the files of teachers, is not what another says.
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
    # What one command began, another may go on with.
    (tmp_path / "p" / "_units" / "en" / "en-wordpiece" / "000001.arrow").unlink()
    (tmp_path / "p" / "_manifest.json").unlink()
    assert call("pipeline.__main__", config).returncode == 0
    assert files(tmp_path / "p") == files(predictions)


# What takes long before a part works: each process writes what it did of that.
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
    """The text is read, and the teachers are tried, by one of them; none fits a tokenizer."""
    folders = [tmp_path] * 3
    if where == "bucket":
        folders = [request.getfixturevalue("machines")[0]] * 3
    else:
        write_settings(tmp_path, pipeline_settings(tmp_path / "p"))
    parts = [
        subprocess.Popen(
            [sys.executable, "-c", PROBE, "c.yaml", "--part", f"{number}/3"],
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
    of_first = ["did survey_file"] * 3 * (where == "folder") + ["did load_model"] * 3
    assert sorted(said) == [[], [], of_first]
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
        (["--part", "1/3", "--finish"], "three different calls"),
        (["--part", "1/3", "--direct_num_workers=2"], "--direct_num_workers=2: no option of a run in parts"),
    ],
)
def test_wrong_parts_are_refused(arguments, message, pipeline_settings, tmp_path):
    done = call("pipeline.__main__", write_settings(tmp_path, pipeline_settings(tmp_path / "p")), *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "p").exists()


@pytest.fixture
def machines(text, teachers, pipeline_settings, tmp_path):
    """Two working directories, each with teachers and a configuration, and in common only a bucket with the text."""
    settings = pipeline_settings(f"{BUCKET}/out", shard_bytes=2048)
    for teacher in settings["teachers"].values():
        teacher["model"] = f"teachers/{Path(teacher['model']).name}"
    with gcs.bucket():
        for language in settings["text"]:
            url = f"{BUCKET}/text/{language}.txt"
            write_bytes(url, (text / f"{language}.txt").read_bytes())
            settings["text"][language] = [url]
        folders = [tmp_path / "one", tmp_path / "two"]
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


def test_a_part_that_is_killed_and_one_that_is_frozen(machines, run_pipeline, tmp_path, monkeypatch):
    """The killed one is started again; the frozen one's units are done by another, and when it thaws, it changes nothing."""
    killed, frozen = (start_part(folder, part) for folder, part in zip(machines, ("1/2", "2/2"), strict=True))

    def units() -> int:
        return sum(name.startswith("_units/") for name in list_files(f"{BUCKET}/out"))

    wait_until(lambda: units() > 3, killed)
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
    teachers = yaml.safe_load((machines[0] / "c.yaml").read_text())["teachers"]
    expected = files(run_pipeline(tmp_path / "whole", shard_bytes=2048, teachers=teachers))
    assert written(f"{BUCKET}/out") == {
        name: content for name, content in expected.items() if not name.startswith(OF_THE_STORAGE)
    }


def test_beams_workers_elsewhere(machines, run_pipeline, tmp_path, monkeypatch):
    """A pool of workers in another working directory, which shares only the bucket with the launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pool = subprocess.Popen(
        [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"],
        cwd=machines[1],
        # It starts its workers as `python`.
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    try:
        time.sleep(1)
        monkeypatch.chdir(machines[0])
        options = ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=EXTERNAL"]
        done = call("pipeline.__main__", "c.yaml", *options, f"--environment_config=127.0.0.1:{port}")
        assert done.returncode == 0, done.stderr
    finally:
        pool.kill()
        pool.wait()
    teachers = yaml.safe_load((machines[0] / "c.yaml").read_text())["teachers"]
    expected = files(run_pipeline(tmp_path / "whole", shard_bytes=2048, teachers=teachers))
    assert written(f"{BUCKET}/out") == {
        name: content for name, content in expected.items() if not name.startswith(OF_THE_STORAGE)
    }
