"""How a command ends: with which exit code, and after a signal at once, with one line, whatever it was doing.

Files are written so that a kill loses nothing that was finished. So a signal does not have to unwind anything, and
nothing can swallow it: neither an `except` in a library nor a thread that the interpreter would wait for.
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
# As the shell says of a process that SIGPIPE ended.
EXIT_BROKEN_PIPE = 141
_STOPPED = "stopped; run the same command again to go on"
_CODES: dict[int, int] = {signal.SIGINT: EXIT_CTRL_C, signal.SIGTERM: EXIT_AGAIN, signal.SIGHUP: EXIT_AGAIN}


def run_command(module: str, arguments: list[str] | None = None, prog: str | None = None) -> NoReturn:
    """Imports `module`, runs its `main` and ends the process with its exit code.

    Args:
      arguments: what `main` is given; default the command line's.
      prog: what the command calls itself; default what its `main` says.

    Ctrl-C ends it with code 130, SIGTERM and SIGHUP with 75, after one line, during the import too. A signal that was
    ignored from the start, as by nohup, still is.
    """
    _end_on_signals()
    try:
        main = importlib.import_module(module).main
        given = sys.argv[1:] if arguments is None else arguments
        code = main(given, prog) if prog else main(given)
        sys.stdout.flush()
    except BrokenPipeError:  # Whoever reads the output, as `head` does, has enough of it.
        code = EXIT_BROKEN_PIPE
    except Exception:  # A bug of ours.
        traceback.print_exc()
        code = 1
    with suppress(OSError):
        sys.stderr.flush()
    # Not `sys.exit`, which waits for threads: some of Beam's never end after an error, and those of torch's gloo abort
    # the process when they let go of a Python object while the interpreter is taken down.
    os._exit(code)


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Runs `command`. Returns what it returns (0 for nothing), or 2 after a `UserError`, whose message is printed."""
    try:
        with naming_exhaustion():
            return command() or 0
    except UserError as error:
        print(f"error: {printable(without_secrets(str(error)))}", file=sys.stderr)
        return 2


@contextmanager
def deferring(numbers: tuple[int, ...]) -> Iterator[list[int]]:
    """In the `with` block the signals `numbers` are only added to the list that this yields."""
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
    # The main thread may be in the code of a library for minutes, where Python does not handle signals.
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(readable,), daemon=True).start()


def _left_to_watcher(number: int, frame: object) -> None:
    """The handler of signals that end the process: it does nothing, because the watching thread does."""


def _watch(readable: int) -> None:
    while numbers := os.read(readable, 64):
        for number in numbers:
            # Other signals belong to whoever handles them now.
            if signal.getsignal(number) is _left_to_watcher:
                _end(_CODES[number])


def _end(code: int) -> NoReturn:
    # If the output is a file, what was printed is still in a buffer. The line is separate from "^C" and progress bars, and
    # is written to the descriptor, which has no lock that another thread may hold.
    for write in (sys.stdout.flush, partial(os.write, 2, f"\n{_STOPPED}\n".encode())):
        # Does not wait for a terminal that accepts no more output.
        writer = threading.Thread(target=_ignoring_os_errors, args=(write,), daemon=True)
        writer.start()
        writer.join(1.0)
    os._exit(code)


def _ignoring_os_errors(action: Callable[[], object]) -> None:
    # The reader of the output may be gone.
    with suppress(OSError):
        action()
