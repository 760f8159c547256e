"""Runs steps that need one another, several at a time."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from tqdm import tqdm


@dataclass(frozen=True)
class Step:
    """One command, run in a process of its own on one core.

    Attributes:
      arguments: of the Python interpreter, such as ("-m", "trainer", "student.yaml").
      needs: names of steps that must be done before.
    """

    name: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()


def run_steps(steps: list[Step], root: Path, processes: int) -> None:
    """Runs all steps, `processes` at a time; skips those that an earlier call finished. Exits with 1 where one fails.

    The output of each is in `root/logs`; `root/done` has a file for each finished step, which holds its seconds.
    """
    by_name = {step.name: step for step in steps}
    sorter = TopologicalSorter({step.name: set(step.needs) & by_name.keys() for step in steps})
    sorter.prepare()
    running: dict[Future[str], str] = {}
    with ThreadPoolExecutor(processes) as executor, tqdm(total=len(steps), unit="step", smoothing=0) as bar:
        while sorter.is_active():
            running |= {executor.submit(_run, by_name[name], root): name for name in sorter.get_ready()}
            bar.set_postfix_str(", ".join(sorted(_unfinished(running))[:processes]))
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                if failure := future.result():
                    executor.shutdown(cancel_futures=True)
                    sys.exit(f"\n{failure}")
                sorter.done(name)
                bar.update()


def seconds_of(root: Path, name: str) -> float:
    """How long a finished step took."""
    return float((root / "done" / name).read_text())


def _unfinished(running: dict[Future[str], str]) -> Iterator[str]:
    return (name for future, name in running.items() if not future.done())


def _run(step: Step, root: Path) -> str:
    """Runs a step that is not done yet. Says what failed; empty if nothing did."""
    marker, log = root / "done" / step.name, root / "logs" / f"{step.name}.log"
    if marker.exists():
        return ""
    for folder in (marker.parent, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # Two processes of one thread do more than one of two threads.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("w") as output:
        code = subprocess.run(
            [sys.executable, *step.arguments], stdout=output, stderr=subprocess.STDOUT, env=environment
        ).returncode
    if code:
        last = log.read_text().strip().splitlines()[-1:] or ["no output"]
        return f"{step.name}: exit code {code}: {last[0]} (all of it: {log})"
    marker.write_text(f"{time.monotonic() - started:.1f}\n")
    return ""
