"""pyproject.toml, requirements.txt, the images and the code agree on dependencies."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PACKAGES = {"pipeline", "schemas", "trainer"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]
    assert len({canonicalize_name(requirement.name) for requirement in parsed}) == len(parsed)
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


BASE = requirements(PROJECT["dependencies"])
EXTRAS = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}
PINNED = requirements((ROOT / "requirements.txt").read_text().splitlines())


def test_the_extras_are_known():
    assert set(EXTRAS) == {"pipeline", "trainer", "evaluation", "wandb", "dev"}
    assert not any(set(BASE) & set(extra) for extra in EXTRAS.values())


def test_requirements_are_pins_of_the_same_distributions():
    declared = set(BASE).union(*EXTRAS.values())
    assert declared == set(PINNED)
    for name, pin in PINNED.items():
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, name


@pytest.mark.parametrize("group", ["dependencies", *EXTRAS])
def test_ranges_hold_the_pins(group):
    for name, requirement in (BASE if group == "dependencies" else EXTRAS[group]).items():
        (pin,) = PINNED[name].specifier
        assert requirement.specifier.contains(pin.version), f"{requirement} has no {pin.version}"
        assert not any(part.operator == "==" for part in requirement.specifier)
        assert requirement.extras == PINNED[name].extras


def test_a_distribution_has_one_range():
    ranges: dict[str, set[str]] = {}
    for group in (BASE, *EXTRAS.values()):
        for name, requirement in group.items():
            ranges.setdefault(name, set()).add(str(requirement.specifier))
    assert all(len(specifiers) == 1 for specifiers in ranges.values())


@pytest.mark.parametrize(
    ("stage", "extras"), [("pipeline", ["pipeline"]), ("trainer", ["trainer", "evaluation", "wandb"])]
)
def test_an_image_holds_the_base_and_its_extras(stage, extras):
    image = requirements((ROOT / "docker" / f"{stage}.txt").read_text().splitlines())
    assert set(image) == set(BASE).union(*(EXTRAS[extra] for extra in extras))


@cache
def distributions_of() -> dict[str, set[str]]:
    """Returns the distributions that provide each top-level import name."""
    return {name: {canonicalize_name(d) for d in actual} for name, actual in packages_distributions().items()}


def imported(package: str) -> set[str]:
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - PACKAGES


@pytest.mark.parametrize(
    ("package", "extras"),
    [("schemas", []), ("pipeline", ["pipeline"]), ("trainer", ["trainer", "evaluation", "wandb"])],
)
def test_every_import_is_declared(package, extras):
    declared = set(BASE).union(*(EXTRAS[extra] for extra in extras))
    for name in imported(package):
        assert distributions_of()[name] & declared, f"{name} is imported by {package} but not declared for it"


def test_versions_are_said_once():
    assert PROJECT["dynamic"] == ["version"]
    text = (ROOT / "schemas" / "__init__.py").read_text()
    assert len(re.findall(r'^__version__ = "\d+\.\d+\.\d+"$', text, re.MULTILINE)) == 1
