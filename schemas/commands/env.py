"""`mergedistill env`: versions and hardware, for bug reports.

Imports none of the packages that it reports on, so that it works if some are missing or broken. It shows only the
environment variables in `_VARIABLES`, none of which contains a secret.
"""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

from schemas import SCHEMA_VERSION, __version__
from schemas.cli import command_parser

_DISTRIBUTIONS = (
    "torch", "transformers", "tokenizers", "safetensors", "sentencepiece", "apache-beam", "protobuf", "pyarrow", "numpy",
    "pydantic", "fsspec", "gcsfs", "tensorboard", "wandb", "accelerate", "scikit-learn", "scipy", "seqeval",
)  # fmt: skip
# CPU flags that decide the available precisions and matrix kernels.
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "HF_HUB_OFFLINE")
_GPU_SECONDS = 20


def main(arguments: list[str], prog: str = "mergedistill env") -> int:
    """Prints the report; returns the exit code 0."""
    command_parser(prog, "Print versions and hardware, for bug reports. No secrets, no paths.").parse_args(arguments)
    for name, value in report().items():
        print(f"{name:24}{value}")
    return 0


def report() -> dict[str, str]:
    """Returns the reported values by name."""
    return {
        "mergedistill": f"{__version__} (Parquet schema {SCHEMA_VERSION})",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "os": platform.platform(),
        **{name: _version(name) for name in _DISTRIBUTIONS},
        "cpu": _cpu(),
        "cores": f"{_usable_cores()} of {os.cpu_count()} usable",
        "memory": _memory(),
        "gpu": _gpus(),
        **{name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", file.read(), re.MULTILINE))
    except OSError:  # Not Linux.
        return platform.processor() or platform.machine()
    flags = (lines.get("flags") or lines.get("Features") or "").split()
    model = lines.get("model name", platform.machine())
    return f"{model} ({' '.join(flag for flag in _CPU_FLAGS if flag in flags)})"


def _usable_cores() -> int:
    # macOS does not have it.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (AttributeError, OSError, ValueError):
        return "unknown"


def _gpus() -> str:
    """NVIDIA GPUs as the driver reports them, without torch."""
    program = shutil.which("nvidia-smi")
    if not program:
        return "none (no nvidia-smi)"
    command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown (nvidia-smi: {type(error).__name__})"
    if done.returncode:
        return f"none (nvidia-smi ends with {done.returncode})"
    return "; ".join(done.stdout.splitlines())
