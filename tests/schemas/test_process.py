"""Commands that receive a signal or hit a bug end at once, with a message."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import SECONDS, run, start_python

pytestmark = pytest.mark.heavy


def run_module(program: str, folder: Path, before: str = "") -> subprocess.Popen:
    """Runs `program`, a module with a `main`, as a command."""
    (folder / "program.py").write_text(program)
    command = f"{before}\nimport sys; sys.path.append({str(folder)!r})\n"
    command += "from schemas.process import run_command; run_command('program')"
    return start_python("-c", command)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("work", ["while True: pass", "time.sleep(60)", "threading.Lock().acquire(), lock.acquire()"])
def test_nothing_swallows_a_signal(number, code, work, tmp_path):
    program = f"""
import threading, time
def main(arguments):
    lock = threading.Lock()
    lock.acquire()
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("begun", flush=True)
    while True:
        try:
            {work}
        except BaseException:
            pass
"""
    # SIGHUP is ignored if the tests themselves run under nohup.
    process = run_module(program, tmp_path, "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    assert process.communicate(timeout=5)[1].strip() == "stopped; run the same command again to go on"
    assert process.returncode == code


def test_a_bug_ends_the_process_whatever_its_threads_do(tmp_path):
    program = """
import threading, time
def main(arguments):
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise ValueError("a bug")
"""
    process = run_module(program, tmp_path)
    assert process.communicate(timeout=10)[1].endswith("ValueError: a bug\n") and process.returncode == 1


def test_a_package_that_is_not_installed_is_one_line():
    hidden = "import sys; sys.modules['jinja2'] = None; from schemas.process import run_command; "
    process = start_python("-c", hidden + "run_command('trainer.evaluation.report.page')")
    expected = "error: jinja2 is not installed; this command needs `pip install '.[trainer,evaluation]'`\n"
    assert process.communicate(timeout=SECONDS)[1] == expected and process.returncode == 2


def test_a_signal_ends_a_command_whose_output_nobody_reads(tmp_path):
    program = """
import time
def main(arguments):
    print("begun", flush=True)
    time.sleep(60)
"""
    process = run_module(program, tmp_path)
    assert process.stdout.readline() == "begun\n"
    process.stdout.close()
    process.stderr.close()
    process.terminate()
    assert process.wait(timeout=10) == 75


@pytest.mark.parametrize(
    "module", ["pipeline", "pipeline.trim", "pipeline.drift", "trainer", "trainer.export", "schemas"]
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_during_the_imports(number, code, module, tmp_path):
    hook = f"""
import os, sys, time
class Signalling:
    def find_spec(self, name, *_):
        if name in ("numpy", "pydantic"):
            os.kill(os.getpid(), {number})
            time.sleep(60)
sys.meta_path.insert(0, Signalling())
"""
    (tmp_path / "sitecustomize.py").write_text(hook)
    arguments = ("inspect", "--help") if module == "schemas" else ("--help",)
    done = run(module, *arguments, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr.strip()) == (code, "stopped; run the same command again to go on")


def test_what_was_ignored_from_the_start_still_is(tmp_path):
    """This is the case under nohup."""
    program = """
import os, signal, time
def main(arguments):
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.3)
    return 7
"""
    process = run_module(program, tmp_path, "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.communicate(timeout=SECONDS)
    assert process.returncode == 7


def test_output_that_is_cut_short_is_no_error(tmp_path):
    """This is what `head` does."""
    process = run_module("def main(arguments):\n    for _ in range(100_000):\n        print('a line')", tmp_path)
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    assert process.wait(SECONDS) == 141
    assert process.stderr.read() == ""
