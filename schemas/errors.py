"""The one kind of exception that is the user's to mend."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. The message is one line that names the place and the mend.

    Command lines print it and exit with code 2; any other exception is a bug of
    ours and keeps its traceback.
    """


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Runs `command` and returns its exit code: its own or 0, 2 after a printed `UserError`, 130 after Ctrl-C."""
    try:
        return command() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130


def first_line(error: Exception) -> str:
    """The first line of what a library's exception says, to be quoted in a `UserError`."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def differences(theirs: object, ours: object, most: int = 5) -> str:
    """What differs between two JSON values, as `key was X, now Y; ...`; empty where nothing does."""
    old, new = _flat(theirs), _flat(ours)
    changed = [
        f"{key} was {old.get(key, 'absent')!r}, now {new.get(key, 'absent')!r}"
        for key in sorted(old.keys() | new.keys())
        if key not in old or key not in new or old[key] != new[key]
    ]
    return "; ".join(changed[:most] + ([f"and {len(changed) - most} more"] if len(changed) > most else []))


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    """Nested dicts and lists as one dict of dotted keys."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix.removesuffix("."): value}
    return {key: leaf for name, inner in items for key, leaf in _flat(inner, f"{prefix}{name}.").items()}
