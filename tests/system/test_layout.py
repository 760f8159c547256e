"""The tests have the same folders as the code, and share helpers in `tests/support`."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TEST_FILES = sorted((ROOT / "tests").rglob("test_*.py"))


def imported_modules(path: Path) -> set[str]:
    """Returns every module that a file imports, including in its functions and in programs inside its strings."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            modules |= set(re.findall(r"tests\.[\w.]+", node.value))
    return modules


@pytest.mark.parametrize("package", ["pipeline", "schemas", "trainer"])
def test_every_folder_of_the_code_has_one_of_tests(package):
    for folder in [ROOT / package, *(path for path in (ROOT / package).rglob("*") if path.is_dir())]:
        if list(folder.glob("*.py")):
            mirrored = ROOT / "tests" / folder.relative_to(ROOT)
            assert (mirrored / "__init__.py").exists(), f"{mirrored} has no __init__.py"
            assert list(mirrored.glob("test_*.py")), f"{mirrored} has no tests"


def test_no_test_file_imports_another():
    assert len(TEST_FILES) > 50
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in TEST_FILES}
    imports = {path: imported_modules(path) & modules for path in TEST_FILES}
    assert {path: others for path, others in imports.items() if others} == {}
