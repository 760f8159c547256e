"""Every error that the user can fix is one line."""

import errno

import pyarrow as pa
import pytest
import torch

from schemas.errors import UserError, differences, first_line
from schemas.process import exit_code_of


def exhaust(kind: str):
    if kind == "torch":
        torch.empty(2**60, dtype=torch.uint8)
    elif kind == "cuda":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    elif kind == "arrow":
        raise pa.ArrowMemoryError("malloc of size 64 failed")
    else:
        raise MemoryError


@pytest.mark.parametrize("kind", ["torch", "cuda", "arrow", "python"])
def test_used_up_memory_says_so(kind, capsys):
    def read():
        try:
            exhaust(kind)
        except Exception as error:
            raise UserError(f"{first_line(error)}; remove the file") from None

    for command in (lambda: exhaust(kind), read):
        assert exit_code_of(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: out of memory (") and "lower batch_tokens" in line and "remove" not in line


@pytest.mark.parametrize("folder", ["missing", "none"])
def test_a_missing_temporary_folder_says_so(folder, capsys, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [f"/{folder}"])
    assert exit_code_of(lambda: tempfile.mkdtemp() and None) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: [Errno 2] No usable temporary directory") and "set TMPDIR" in line


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device", "a"), Exception("No space left on device (os error 28)")]
)
def test_a_full_disk_says_so(error, capsys):
    def fail():
        raise error

    assert exit_code_of(fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: a disk is full (") and "free space" in line


def test_differences_names_both_values():
    assert differences({"a": {"b": 1}, "c": [1, 2]}, {"a": {"b": 2}, "c": [1, 2]}) == "a.b was 1, now 2"
    assert differences({"a": 1}, {"a": 1}) == ""
    assert differences({"a": None}, {}) == "a was None, now 'absent'"


def test_what_is_printed_of_an_error_is_escaped(capsys):
    hostile = "a\x1b[31mred\nerror: b\r\u202eevil\u2066\x9b2J\ud800 नमस्ते 👩‍🚀"

    def fail():
        raise UserError(hostile)

    assert exit_code_of(fail) == 2
    printed = capsys.readouterr().err
    assert printed == ("error: a\\x1b[31mred\\nerror: b\\r\\u202eevil\\u2066\\x9b2J\\ud800 नमस्ते 👩‍🚀\n")
