"""Every command in the documents: its module exists, and its own parser takes its arguments."""

import importlib
import importlib.util
import itertools
import re
import shlex

import pytest

from schemas.cli import VERBS
from schemas.config import load_config
from tests.support.documents import PAGES, blocks, table
from tests.support.paths import ROOT
from trainer.config import TrainerConfig

# The first finds commands in code blocks, the second in running text.
LAUNCHED = re.compile(r"(?:torchrun .*?|\S*python[\d.]*) -m (?P<module>[\w.]+)(?P<arguments>.*)")
INLINE = re.compile(r"`[^`]*?python -m ([\w.]+)[^`]*`")
# An environment variable that is set for one command.
VARIABLE = re.compile(r"[A-Z_]+=\S*")
# Modules of other projects.
FOREIGN = ("pip", "venv", "pytest", "http.server", "apache_beam.runners.worker.worker_pool_main")
# Programs of other projects, which have their own environments.
OTHER_ENVIRONMENT = re.compile(r"\w+-env/bin/\w+$")


def commands() -> list[tuple[str, str, list[str]]]:
    """(where, module, arguments) of every command: the module after `python -m`, or that of a verb of mergedistill."""
    actual = []
    for block in blocks("bash", "sh"):
        for line in re.sub(r"\\\n\s*", "", block.code).splitlines():
            words = list(itertools.dropwhile(VARIABLE.fullmatch, shlex.split(line, comments=True)))
            if not words:
                continue
            if words[0] == "mergedistill":
                actual.append((block.where, VERBS[words[1]].module, words[2:]))
            elif match := LAUNCHED.match(shlex.join(words)):
                actual.append((block.where, match["module"], shlex.split(match["arguments"])))
            elif not OTHER_ENVIRONMENT.match(words[0]):
                assert words[0] in ("make", "git", "cd", "pre-commit"), f"{block.where}: {line}"
    return actual


COMMANDS = [command for command in commands() if command[1] not in FOREIGN]


@pytest.fixture
def parse(monkeypatch):
    """A function that runs a command until it has parsed its arguments, and returns those that it leaves to Beam."""

    def run(module: str, arguments: list[str]) -> list[str]:
        command = importlib.import_module(module)
        to_beam: list[str] = []
        monkeypatch.setattr(command, "exit_code_of", lambda work: work() or 0)
        for name in ("_run", "_run_part", "_dry_run", "_export"):
            monkeypatch.setattr(command, name, lambda *taken: to_beam.extend(taken[2:3]), raising=False)
        assert command.main(arguments) == 0
        return to_beam[0] if module == "pipeline.__main__" else []

    return run


def module_of(name: str) -> str:
    """The module that `python -m name` runs."""
    spec = importlib.util.find_spec(name)
    assert spec, name
    return f"{name}.__main__" if spec.submodule_search_locations else name


@pytest.mark.parametrize(("where", "name", "arguments"), COMMANDS, ids=[f"{c[0]} {c[1]}" for c in COMMANDS])
def test_commands_parse(where, name, arguments, parse):
    module = module_of(name)
    if module.startswith(("examples.", "benchmarks.")):
        return  # These take no arguments, or parse them where they need them.
    if to_beam := parse(module, arguments):
        from pipeline.engine.options import beam_options

        beam_options(to_beam)


def test_wrong_commands_are_seen(parse, capsys):
    with pytest.raises(SystemExit):
        parse("pipeline.trim.__main__", ["out/predictions", "--no-such", "out/trimmed"])
    assert parse("pipeline.__main__", ["predictions.yaml", "top_k=4", "--no_such=1"]) == ["--no_such=1"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_running_text_exist(page):
    text = page.read_text(encoding="utf-8")
    for module in INLINE.findall(text):
        assert module in FOREIGN or module_of(module), module
    assert set(re.findall(r"`mergedistill (\w+)", text)) <= VERBS.keys()


def test_the_index_lists_every_verb():
    rows = table(ROOT / "docs" / "index.md", "verb")
    assert [row["verb"].strip("`") for row in rows] == list(VERBS)


def test_overrides_that_are_shown():
    """Overrides in running text, such as `max_steps=1000`, are fields of the trainer."""
    shown = {
        override
        for page in PAGES
        for override in re.findall(r"`([a-z_.]+=[\w.+-]+)`", page.read_text(encoding="utf-8"))
        if override != "key=value"
    }
    assert len(shown) >= 2
    load_config(str(ROOT / "examples/demo/student.yaml"), TrainerConfig, sorted(shown))
