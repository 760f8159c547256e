"""How a command ends: its exit code, and its immediate end, with one line, after a signal.

Files are written so that a kill loses no finished work. So a signal need not unwind the stack, and nothing can swallow
it: neither an `except` in a library nor a thread that the interpreter would wait for.
"""

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NoReturn

from schemas.errors import UserError, naming_exhaustion, printable
from schemas.secrets import without_secrets

# EX_TEMPFAIL of sysexits.h: try again later.
EXIT_AGAIN = 75
EXIT_CTRL_C = 130
# The shell's exit code for a process that SIGPIPE ended.
EXIT_BROKEN_PIPE = 141
_STOPPED = "stopped; run the same command again to go on"
# The optional dependencies that a command needs, by the beginning of its module's name.
_EXTRAS = {"pipeline": "[pipeline]", "trainer.evaluation": "[trainer,evaluation]", "trainer": "[trainer]", "": ""}
_CODES: dict[int, int] = {signal.SIGINT: EXIT_CTRL_C, signal.SIGTERM: EXIT_AGAIN, signal.SIGHUP: EXIT_AGAIN}


def run_command(module: str, arguments: list[str] | None = None, prog: str | None = None) -> NoReturn:
    """Imports `module`, runs its `main` and ends the process with its exit code.

    Args:
      arguments: passed to `main`; default the command line's.
      prog: the command's name in its help; default that of `main`.

    Ctrl-C ends it with code 130, SIGTERM and SIGHUP with 75, after one line; this holds during the import too. A signal
    that was ignored from the start, for example by nohup, stays ignored.
    """
    _end_on_signals()
    try:
        main = importlib.import_module(module).main
        given = sys.argv[1:] if arguments is None else arguments
        code = main(given, prog) if prog else main(given)
        sys.stdout.flush()
    except BrokenPipeError:  # The reader of the output, such as `head`, has closed it.
        code = EXIT_BROKEN_PIPE
    except Exception as error:
        if package := _missing_package(error):
            extra = next(names for stage, names in _EXTRAS.items() if module.startswith(stage))
            print(f"error: {package} is not installed; this command needs `pip install '.{extra}'`", file=sys.stderr)
            code = 2
        else:  # A bug of ours.
            traceback.print_exc()
            code = 1
    with suppress(OSError):
        sys.stderr.flush()
    # Not `sys.exit`, which waits for threads: some of Beam's never end after an error, and those of torch's gloo abort
    # the process if they release a Python object while the interpreter shuts down.
    os._exit(code)


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Runs `command`. Returns its result (0 for None), or prints a `UserError` and returns 2."""
    try:
        with naming_exhaustion():
            return command() or 0
    except UserError as error:
        print(f"error: {printable(without_secrets(str(error)))}", file=sys.stderr)
        return 2


def _missing_package(error: Exception) -> str:
    """The package of others that an import did not find; empty for any other error."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return "" if package in ("pipeline", "trainer", "schemas") else package


@contextmanager
def deferring(numbers: tuple[int, ...]) -> Iterator[list[int]]:
    """Inside the `with` block, the signals `numbers` are only appended to the list that this yields."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_on_signals() -> None:
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    for number in _CODES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _left_to_watcher)
    # The main thread may be in library code for minutes, where Python does not handle signals.
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(readable,), daemon=True).start()


def _left_to_watcher(number: int, frame: object) -> None:
    """Does nothing, as the handler of signals that end the process: the watching thread handles them."""


def _watch(readable: int) -> None:
    while numbers := os.read(readable, 64):
        for number in numbers:
            # Other code may have installed its own handler.
            if signal.getsignal(number) is _left_to_watcher:
                _end(_CODES[number])


def _end(code: int) -> NoReturn:
    # If the output is a file, printed text may still be in a buffer. The line starts on a new line, apart from "^C" and
    # progress bars, and goes to the descriptor, which has no lock that another thread may hold.
    for write in (sys.stdout.flush, partial(os.write, 2, f"\n{_STOPPED}\n".encode())):
        # A thread, in order not to wait for a terminal that accepts no more output.
        writer = threading.Thread(target=_ignoring_os_errors, args=(write,), daemon=True)
        writer.start()
        writer.join(1.0)
    os._exit(code)


def _ignoring_os_errors(action: Callable[[], object]) -> None:
    # The reader of the output may be gone.
    with suppress(OSError):
        action()
