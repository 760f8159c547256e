"""The check for a compiler before torch.compile is used."""

import re

import pytest

from schemas.compilers import check_compiler
from schemas.errors import UserError


@pytest.mark.parametrize(("device", "variable", "name"), [("cpu", "CXX", "g++"), ("cuda", "CC", "gcc")])
def test_a_missing_compiler_is_named(monkeypatch, tmp_path, device, variable, name):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match=rf"no.*{re.escape(name)}.*{variable}"):
        check_compiler(device)
    (tmp_path / name).touch(mode=0o755)
    check_compiler(device)
    (tmp_path / name).unlink()
    monkeypatch.setenv(variable, "/somewhere/compiler")
    check_compiler(device)
