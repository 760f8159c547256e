"""How a command of ours ends when it is asked to: at once, with a word, whatever it was doing.

Everything is written so that a kill loses nothing that was finished. So nothing needs to be unwound, and nothing
can swallow the signal: not a library's `except`, nor a thread that the interpreter would wait for.
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
_WORDS = "stopped; run the same command again to go on"
_CODES = {signal.SIGINT: EXIT_CTRL_C, signal.SIGTERM: EXIT_AGAIN, signal.SIGHUP: EXIT_AGAIN}


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
        code = main(sys.argv[1:] if arguments is None else arguments, **({"prog": prog} if prog else {}))
    except Exception:  # A bug of ours.
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
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
    """Meanwhile the signals `numbers` only add to the list that this gives."""
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
    # The main thread may be in a library's code for minutes, where it would not hear a signal.
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(readable,), daemon=True).start()


def _left_to_watcher(number: int, frame: object) -> None:
    """The handler of a signal that ends the process."""


def _watch(readable: int) -> None:
    while numbers := os.read(readable, 64):
        for number in numbers:
            # Others belong to whoever handles them now.
            if signal.getsignal(number) is _left_to_watcher:
                _end(_CODES[number])


def _end(code: int) -> NoReturn:
    # What was printed is still in a buffer when the output is a file. The words come on a line of their own, after
    # "^C" and progress bars; by the descriptor, whose lock no other thread can hold.
    for say in (sys.stdout.flush, partial(os.write, 2, f"\n{_WORDS}\n".encode())):
        # A terminal that takes no more is not waited for.
        saying = threading.Thread(target=_say, args=(say,), daemon=True)
        saying.start()
        saying.join(1.0)
    os._exit(code)


def _say(say: Callable[[], object]) -> None:
    # Whoever read it may be gone.
    with suppress(OSError):
        say()
