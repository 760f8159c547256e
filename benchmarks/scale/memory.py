"""Memory of this process."""

import re
from pathlib import Path


def megabytes() -> float:
    """The most memory that this process has had. (`getrusage` would count what the process that started it had.)"""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) / 1000
