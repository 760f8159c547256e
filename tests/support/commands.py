"""Runs commands in this process or in a new one, and waits for a process to do something."""

import importlib
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest

from tests.support.paths import ROOT

# No command of the tests takes this long, even on a busy machine.
SECONDS = 240


def call(module: str, *arguments: object) -> subprocess.CompletedProcess:
    """Calls `main` of a command's module in this process, and returns the output and exit code of the command.

    This saves the seconds in which a new process imports torch. Use `run` for what only a process shows: that the command
    starts, which signals it handles, what it leaves behind when killed.
    """
    command = [module, *map(str, arguments)]
    main = importlib.import_module(module).main
    filters = {handler: list(handler.filters) for handler in logging.getLogger().handlers}
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            code = main(command[1:])
        except SystemExit as end:  # argparse raises it.
            code = end.code
        finally:
            for handler, before in filters.items():
                handler.filters = before
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def run(module: str, *arguments: object, seconds: float = SECONDS, **environment: str) -> subprocess.CompletedProcess:
    """Runs `python -m MODULE ARGUMENTS` until it exits."""
    return run_python("-m", module, *arguments, seconds=seconds, **environment)


def run_python(*arguments: object, seconds: float = SECONDS, **environment: str) -> subprocess.CompletedProcess:
    """Runs Python until it exits."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=os.environ | environment,
    )


def start_python(*arguments: object, **environment: str) -> subprocess.Popen:
    """Starts Python with readable output and errors."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def wait_until(condition: Callable[[], object], process: subprocess.Popen, seconds: float = SECONDS) -> None:
    """Waits for `condition`; fails with the output of the process if it exits first or the wait takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        has_ended = process.poll() is not None
        if has_ended or time.monotonic() > deadline:
            process.kill()
            said = process.communicate(timeout=SECONDS)[1]
            pytest.fail(f"{'it ended' if has_ended else f'nothing in {seconds} s'}, before it was expected: {said}")
        time.sleep(0.02)
