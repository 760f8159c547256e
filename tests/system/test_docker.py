"""The containers, checked without a container engine: the files and packages that they name exist and suffice."""

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT


def instructions(stage: str) -> list[tuple[str, str]]:
    text = (ROOT / "docker" / f"{stage}.Dockerfile").read_text().replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def distributions(path: Path) -> set[str]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {re.split(r"[\[=]", line)[0] for line in lines if line}


@pytest.mark.parametrize("stage", ["pipeline", "trainer"])
def test_every_path_exists_and_dependencies_come_first(stage):
    copies = [arguments.split()[:-1] for name, arguments in instructions(stage) if name == "COPY"]
    assert all((ROOT / path).exists() for paths in copies for path in paths)
    names = [name for name, _ in instructions(stage)]
    install = next(i for i, (name, text) in enumerate(instructions(stage)) if name == "RUN" and "pip install" in text)
    code = [i for i, (name, text) in enumerate(instructions(stage)) if name == "COPY" and f"{stage}/ " in text]
    assert install < min(code) and "USER" in names


@pytest.mark.parametrize("stage", ["pipeline", "trainer"])
def test_the_image_holds_the_code_of_the_stage(stage):
    """The image has the stage's packages; test_packaging compares their imports with the image's distributions."""
    copied = {arguments.split()[0].rstrip("/") for name, arguments in instructions(stage) if name == "COPY"}
    assert {"schemas", stage} <= copied


@pytest.mark.parametrize("stage", ["pipeline", "trainer"])
def test_versions_are_pinned_once(stage):
    assert "--constraint requirements.txt" in (ROOT / "docker" / f"{stage}.Dockerfile").read_text()
    listed = distributions(ROOT / "docker" / f"{stage}.txt")
    assert listed <= distributions(ROOT / "requirements.txt")
    assert all(line == re.sub(r"[<>=~].*", "", line) for line in (ROOT / "docker" / f"{stage}.txt").read_text().split())
    assert not (stage == "trainer" and "apache-beam" in listed)


def test_the_launchers_image_is_that_of_the_workers():
    lines = instructions("launcher")
    assert [text for name, text in lines if name == "FROM"] == ["${LAUNCHER_BASE} AS launcher", "${PIPELINE_IMAGE}"]
    copied = [text.split()[0] for name, text in lines if name == "COPY" and not text.startswith("--from")]
    assert copied == ["docker/flex_template.py"] and (ROOT / copied[0]).exists()
    assert ("ENV", "FLEX_TEMPLATE_PYTHON_PY_FILE=/app/flex_template.py") in lines


def test_base_images_are_pinned():
    pinned = {dict(instructions(stage))["FROM"] for stage in ("pipeline", "trainer")}
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]*\d+\.\d+\.\d+[\w.-]*", image) for image in pinned)
    beam = re.search(r"apache-beam\S*==(\S+)", (ROOT / "requirements.txt").read_text())[1]
    assert f"apache/beam_python3.11_sdk:{beam}" in pinned
