"""`mergedistill`: its verbs are the modules' commands, and starting one loads no other module."""

import importlib
import subprocess
import sys

import pytest

import schemas
from schemas.cli import VERBS, main
from tests.support.paths import ROOT


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_its_name_and_version(verb, capsys):
    command = importlib.import_module(VERBS[verb].module).main
    with pytest.raises(SystemExit) as ended:
        command(["--help"], prog=f"mergedistill {verb}")
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f"usage: mergedistill {verb} ")
    with pytest.raises(SystemExit) as ended:
        command(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"mergedistill {schemas.__version__}\n"


def test_help_lists_the_verbs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mergedistill", "--help"])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and verb.summary in shown for name, verb in VERBS.items())


def test_an_unknown_verb_is_one_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mergedistill", "trian"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "mergedistill: error: argument VERB: invalid choice: 'trian'" in capsys.readouterr().err


def test_it_hands_on_all_arguments(monkeypatch):
    called = []
    monkeypatch.setattr("schemas.cli.run_command", lambda *arguments: called.append(arguments))
    monkeypatch.setattr(sys, "argv", ["mergedistill", "train", "--version", "s.yaml", "seed=1", "--x"])
    main()
    assert called == [("trainer.__main__", ["--version", "s.yaml", "seed=1", "--x"], "mergedistill train")]


@pytest.mark.heavy
def test_the_dispatcher_loads_nothing_heavy():
    code = "import sys, schemas.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ours_or_std = {"schemas", "__main__", *sys.stdlib_module_names}
    # Modules that the environment's .pth files load do not count.
    bare = subprocess.run(
        [sys.executable, "-c", code.replace(", schemas.cli", "")], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert set(loaded.split()) - set(bare.split()) <= ours_or_std


@pytest.mark.heavy
def test_exit_codes_and_names_reach_the_shell(tmp_path):
    command = [sys.executable, "-m", "schemas", "inspect", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    done = subprocess.run([*command[:-1], "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m schemas inspect ")
