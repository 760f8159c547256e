"""The wheel: it has every package, and its commands run without the project's source folder."""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import schemas
from tests.support.paths import ROOT

PACKAGES = ("pipeline", "schemas", "trainer")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, since an old `build/` would add deleted files."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = built.iterdir()
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The programs of a new environment with the wheel and, by path, the packages that are installed here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, str(wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_it_holds_every_module_and_what_lies_beside_them(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(f"mergedistill-{schemas.__version__}.dist-info/METADATA").decode()
    beside = {f"{package}/py.typed" for package in PACKAGES} | {
        "pipeline/config.schema.json",
        "trainer/config.schema.json",
        "trainer/evaluation/config.schema.json",
        "trainer/evaluation/report/page.html.jinja",
    }
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert held == modules | beside
    for extra in ("pipeline", "trainer", "evaluation", "wandb", "dev"):
        assert f"Provides-Extra: {extra}\n" in metadata


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("mergedistill --version", f"mergedistill {schemas.__version__}\n"),
        ("mergedistill schema trainer", '"title": "TrainerConfig"'),
        ("mergedistill env", f"mergedistill            {schemas.__version__} "),
        ("mergedistill inspect --help", "usage: mergedistill inspect "),
        ("mergedistill predict --help", "usage: mergedistill predict "),
        ("mergedistill train --help", "usage: mergedistill train "),
        ("mergedistill evaluate --help", "usage: mergedistill evaluate "),
        ("python -m pipeline.trim --help", "usage: python -m pipeline.trim "),
        ("python -m trainer --version", f"mergedistill {schemas.__version__}\n"),
    ],
)
def test_its_commands_run(environment, tmp_path, command, shown):
    program, *arguments = command.split()
    done = subprocess.run([environment / program, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_it_is_the_wheel_that_runs(environment, tmp_path):
    code = "import pipeline, schemas, trainer; print(pipeline.__file__, schemas.__file__, trainer.__file__)"
    done = subprocess.run(
        [environment / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(path.startswith(str(environment.parent)) for path in done.stdout.split())
