"""Whether torch.compile has the compiler that it needs, asked before any work: it would fail at the first batch."""

import os
import shutil

from schemas.errors import UserError

# By the kind of device: the variable that names a compiler, and the compilers that are looked for without it.
_COMPILERS = {"cpu": ("CXX", ("g++", "c++", "clang++")), "other": ("CC", ("gcc", "clang"))}


def check_compiler(device: str) -> None:
    """UserError where there is none for torch.compile on a device, such as `cpu` or `cuda`."""
    variable, names = _COMPILERS["cpu" if device == "cpu" else "other"]
    if not os.environ.get(variable) and not any(map(shutil.which, names)):
        raise UserError(
            f"torch_compile needs a compiler on {device}, and there is none of {', '.join(names)} here: install one "
            f"(Debian's package is {names[0]}), name one in {variable}, or leave torch_compile out"
        )
