"""Runs steps that depend on each other, several at a time."""

import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from tqdm import tqdm

from schemas.storage import write_bytes


@dataclass(frozen=True)
class Step:
    """One command, run in a separate process on one core.

    Attributes:
      arguments: of the Python interpreter, such as ("-m", "trainer", "student.yaml").
      needs: names of steps that must finish first.
    """

    name: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()


def run_steps(steps: list[Step], root: Path, processes: int) -> None:
    """Runs all steps, `processes` at a time; skips those that an earlier call finished. Exits with 1 if one fails.

    A finished step runs again if its arguments, its configuration or a step that it needs change, but not if the code does.
    The output of each is in `root/logs`; `root/done` has a file for each finished step, with its fingerprint and its seconds.
    """
    by_name = {step.name: step for step in steps}
    prints = fingerprints(steps)
    sorter = _sorter(steps)
    sorter.prepare()
    running: dict[Future[str], str] = {}
    with ThreadPoolExecutor(processes) as executor, tqdm(total=len(steps), unit="step", smoothing=0) as bar:
        while sorter.is_active():
            running |= {executor.submit(_run, by_name[name], prints[name], root): name for name in sorter.get_ready()}
            # The executor starts them in this order.
            bar.set_postfix_str(", ".join(list(running.values())[:processes]))
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                if failure := future.result():
                    executor.shutdown(cancel_futures=True)
                    sys.exit(f"\n{failure}")
                sorter.done(name)
                bar.update()


def fingerprints(steps: list[Step]) -> dict[str, str]:
    """Returns a sha256 for each step, over its arguments, the YAML files that they name, and the steps that it needs."""
    by_name = {step.name: step for step in steps}
    prints: dict[str, str] = {}
    for name in _sorter(steps).static_order():
        digest = hashlib.sha256()
        for argument in by_name[name].arguments:
            digest.update(Path(argument).read_bytes() if argument.endswith(".yaml") else argument.encode())
        for needed in by_name[name].needs:
            digest.update(prints.get(needed, needed).encode())
        prints[name] = digest.hexdigest()
    return prints


def seconds_of(root: Path, name: str) -> float:
    """Returns how long a finished step took."""
    return json.loads((root / "done" / name).read_text())["seconds"]


def _sorter(steps: list[Step]) -> TopologicalSorter[str]:
    names = {step.name for step in steps}
    return TopologicalSorter({step.name: set(step.needs) & names for step in steps})


def _run(step: Step, fingerprint: str, root: Path) -> str:
    """Runs a step that is not done yet. Returns what failed; empty if it succeeded."""
    marker, log = root / "done" / step.name, root / "logs" / f"{step.name}.log"
    if marker.exists() and json.loads(marker.read_text())["fingerprint"] == fingerprint:
        return ""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # Two processes with one thread each are faster than one with two threads.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("w") as output:
        code = subprocess.run(
            [sys.executable, *step.arguments], stdout=output, stderr=subprocess.STDOUT, env=environment
        ).returncode
    if code:
        last = log.read_text().strip().splitlines()[-1:] or ["no output"]
        return f"{step.name}: exit code {code}: {last[0]} (full log: {log})"
    done = {"fingerprint": fingerprint, "seconds": round(time.monotonic() - started, 1)}
    write_bytes(str(marker), json.dumps(done).encode())
    return ""
