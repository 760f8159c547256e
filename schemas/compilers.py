"""Checks before any work that torch.compile has a compiler; without one it would fail at the first batch."""

import os
import shutil

from schemas.errors import UserError

# For each kind of device: the variable that names a compiler, and the compilers that torch looks for if it is not set.
_COMPILERS = {"cpu": ("CXX", ("g++", "c++", "clang++")), "other": ("CC", ("gcc", "clang"))}


def check_compiler(device: str) -> None:
    """Raises UserError if torch.compile has no compiler for a device such as `cpu` or `cuda`."""
    variable, names = _COMPILERS["cpu" if device == "cpu" else "other"]
    if not os.environ.get(variable) and not any(map(shutil.which, names)):
        raise UserError(
            f"torch_compile needs a compiler on {device}, but none of {', '.join(names)} is installed; install one "
            f"(Debian package {names[0]}), set {variable} to one, or leave torch_compile out"
        )
