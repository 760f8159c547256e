"""The small world as fixtures: its teachers, its text, and the pipeline's output over it; and what is a quick test."""

import multiprocessing.process
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
# Before torch is imported, and for the processes that tests start. Where processes share cores, OpenMP's threads wait
# for each other by spinning, which is ten times slower.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell starts jobs in the background with Ctrl-C ignored, and the commands that tests start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from pipeline.config import PipelineConfig
from tests.support import world


def pytest_addoption(parser) -> None:
    """How large the seeded tests of `tests/system` are; `make fuzz` has the large ones."""
    parser.addoption("--hostile-lines", type=int, default=500, help="hostile lines, for each family of tokenizers")
    parser.addoption("--damaged-folders", type=int, default=60, help="damaged folders of predictions")
    parser.addoption("--fuzz-seed", type=int, default=0, help="decides which")


# Fixtures that train, or run the pipeline several times.
HEAVY_FIXTURES = {"finished", "grown", "one_teacher", "stopped", "student"}


def pytest_collection_modifyitems(items) -> None:
    """Marks the tests of the whole as heavy, and puts them first, so that no worker is left with them at the end."""
    system = Path(__file__).parent / "system"
    for item in items:
        if system in item.path.parents or HEAVY_FIXTURES & set(item.fixturenames):
            item.add_marker("heavy")
        if "slow" in item.keywords:
            item.add_marker("heavy")
            item.add_marker(pytest.mark.timeout(3600))
    items.sort(key=lambda item: system not in item.path.parents)


def pytest_make_parametrize_id(val, argname) -> str | None:
    """Names bytes by argument, not by content: a compressed file may hold the time, and every xdist worker must collect
    the same tests."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def quick_stays_quick(request, monkeypatch) -> None:
    """A test that is not marked as heavy starts no process and asks no other machine."""
    if "heavy" in request.keywords:
        return
    connect = socket.socket.connect

    def refuse(*_, **__):
        pytest.fail("a test that starts processes is marked with pytest.mark.heavy")

    def connect_here(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"a test that asks {address[0]} is marked with pytest.mark.heavy")
        return connect(self, address)

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture(scope="session")
def teachers(tmp_path_factory) -> Path:
    """A folder with the three tiny teachers."""
    folder = tmp_path_factory.mktemp("teachers")
    for name in world.TEACHERS:
        world.make_teacher(name, folder / name)
    return folder


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A folder with `<language>.txt` and `<language>.heldout.txt`."""
    folder = tmp_path_factory.mktemp("text")
    for language in world.WORDS:
        lines = world.sentences(language, 240)
        (folder / f"{language}.txt").write_text("\n".join(lines[:200]) + "\n", encoding="utf-8")
        (folder / f"{language}.heldout.txt").write_text("\n".join(lines[200:]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def pipeline_settings(teachers, text):
    """A function that gives a configuration as a dict: `pipeline_settings(output, **changes)`."""

    def settings(output: Path, suffix: str = "", **changes) -> dict:
        return {
            "output": str(output),
            "teachers": {
                name: {"model": str(teachers / name), "languages": [language], "dtype": "float32"}
                for name, language in world.TEACHERS.items()
            },
            "text": {language: [str(text / f"{language}{suffix}.txt")] for language in world.WORDS},
            "max_length": world.MAX_LENGTH,
            "top_k": 8,
            "seed": 5,
            "shard_bytes": 8192,
            "max_rejected": 1.0,
            "row_group_rows": 32,
            "batch_tokens": 512,
        } | changes

    return settings


@pytest.fixture(scope="session")
def run_pipeline(pipeline_settings):
    """A function that runs stage one in this process and returns the output folder."""
    from pipeline.job.launcher import run_pipeline

    def run(output: Path, **changes) -> Path:
        run_pipeline(PipelineConfig.model_validate(pipeline_settings(output, **changes)), [])
        return output

    return run


@pytest.fixture(scope="session")
def predictions(run_pipeline, tmp_path_factory) -> Path:
    """The pipeline's output over the training text, by the real DirectRunner. Read only."""
    return run_pipeline(tmp_path_factory.mktemp("run") / "predictions")


@pytest.fixture(scope="session")
def heldout(run_pipeline, tmp_path_factory) -> Path:
    """The same over the held-out text. Read only."""
    return run_pipeline(tmp_path_factory.mktemp("run") / "heldout", suffix=".heldout")


@pytest.fixture(scope="session")
def student(predictions, heldout, tmp_path_factory) -> Path:
    """The output folder of a finished training run of 40 steps. Read only."""
    from tests.support.training import train, write_config

    folder = tmp_path_factory.mktemp("trained")
    done = train(write_config(folder, predictions, heldout))
    assert done.returncode == 0, done.stderr
    return folder / "student"
