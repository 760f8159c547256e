"""The small world as fixtures: its teachers, its text, and the pipeline's output over it."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from pipeline.config import PipelineConfig  # noqa: E402
from tests.support import world  # noqa: E402


def pytest_addoption(parser) -> None:
    """How large the seeded tests of `tests/system` are; `make fuzz` has the large ones."""
    parser.addoption("--hostile-lines", type=int, default=500, help="hostile lines, for each family of tokenizers")
    parser.addoption("--damaged-folders", type=int, default=60, help="damaged folders of predictions")
    parser.addoption("--fuzz-seed", type=int, default=0, help="decides which")


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
