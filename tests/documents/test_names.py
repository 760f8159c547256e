"""The functions, modules and files of the project that the documents name exist."""

import importlib
import re
from functools import reduce

import pytest

from tests.support.documents import PAGES, blocks
from tests.support.paths import ROOT

# The changelog also names things that no longer exist.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
NAME = re.compile(r"`((?:pipeline|trainer|schemas|tests|examples|benchmarks|docs)(?:\.\w+)+)(?:\(\))?`")
PATH = re.compile(r"(?<![\w/.])((?:pipeline|trainer|schemas|tests|examples|benchmarks|docs|docker)/[\w/.-]*\w)")


def exists(name: str) -> bool:
    """Whether `package.module.Class.method` can be imported."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or " "):
                raise
            continue
        try:
            reduce(getattr, parts[length:], module)
        except AttributeError:
            return False
        return True
    return False


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_exist(page):
    text = page.read_text(encoding="utf-8")
    assert [name for name in NAME.findall(text) if not name.endswith((".py", ".yaml")) and not exists(name)] == []


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    assert [path for path in PATH.findall(text) if not (ROOT / path).exists()] == []


def test_a_wrong_name_is_seen():
    assert exists("pipeline.config.PipelineConfig.model_fields")
    assert not exists("pipeline.config.PipelineConfig.no_such") and not exists("pipeline.no_such.thing")


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target
        for text in [*(page.read_text(encoding="utf-8") for page in PRESENT), *(b.code for b in blocks("bash"))]
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)
    }
    assert len(named) > 5
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
