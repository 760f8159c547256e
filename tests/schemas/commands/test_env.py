"""`mergedistill env`: a report that can be pasted anywhere."""

import platform
from importlib.metadata import version

import pytest

from schemas import __version__
from schemas.commands import env

# Python starts `uname` to find out the platform.
pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def no_programs(monkeypatch):
    """Hides programs such as nvidia-smi, so that the machine's own GPUs do not matter."""
    monkeypatch.setenv("PATH", "")


def test_it_says_what_is_there_and_what_is_not(monkeypatch, capsys):
    monkeypatch.setattr(env, "_DISTRIBUTIONS", ("torch", "no-such-distribution"))
    assert env.main([]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["mergedistill"].startswith(__version__) and rows["python"].endswith(platform.python_version())
    assert (rows["torch"], rows["no-such-distribution"]) == (version("torch"), "not installed")
    assert {"os", "cpu", "cores", "memory", "gpu"} <= set(rows)


def test_it_shows_no_variable_but_the_listed_ones(monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("WANDB_API_KEY", "wandb_secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    env.main([])
    shown = capsys.readouterr().out
    assert "secret" not in shown and "OMP_NUM_THREADS" in shown


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "echo 'NVIDIA L4, 23034 MiB, 550.1'; echo 'NVIDIA L4, 23034 MiB, 550.1'",
            "NVIDIA L4, 23034 MiB, 550.1; NVIDIA L4",
        ),
        ("exit 9", "none (nvidia-smi ends with 9)"),
    ],
)
def test_gpus_are_the_drivers_word(monkeypatch, tmp_path, script, expected):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert env.report()["gpu"].startswith(expected)


def test_no_driver():
    assert env.report()["gpu"] == "none (no nvidia-smi)"
