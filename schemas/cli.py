"""`mergedistill VERB ...`: one name for every command.

A verb is a module with a `main(arguments, prog)` that returns an exit code. Its module is listed by name and imported
only when the verb runs, so that Ctrl-C works during heavy imports and this package imports neither stage.
"""

import argparse
from typing import Any, NamedTuple, NoReturn

from schemas import __version__
from schemas.process import run_command


class Verb(NamedTuple):
    """A command: the module that runs it, and what it does in a few words."""

    module: str
    summary: str


VERBS = {
    "predict": Verb("pipeline.__main__", "stage one: write the teachers' predictions as Parquet"),
    "trim": Verb("pipeline.trim.__main__", "remove merged tokens that the corpora do not use"),
    "drift": Verb("pipeline.drift", "compare the default tokenizer with those of the teachers"),
    "train": Verb("trainer.__main__", "stage two: train the student"),
    "evaluate": Verb(
        "trainer.evaluation.__main__", "score models on tasks and write a report; rank candidate teachers"
    ),
    "export": Verb("trainer.export", "write a checkpoint as a folder that transformers loads"),
    "inspect": Verb("schemas.commands.inspect", "summarize a folder of predictions, or show one row"),
    "schema": Verb("schemas.commands.json_schema", "print the JSON schema of a configuration, for editors"),
    "env": Verb("schemas.commands.env", "print versions and hardware, for bug reports"),
}


def command_parser(prog: str, description: str, **settings: Any) -> argparse.ArgumentParser:
    """Returns a parser for a command's arguments, with `--version`."""
    parser = argparse.ArgumentParser(prog=prog, description=description, **settings)
    parser.add_argument("--version", action="version", version=f"mergedistill {__version__}")
    return parser


def main(prog: str = "mergedistill") -> NoReturn:
    """Runs the verb that the command line names, then ends the process with its exit code."""
    parser = command_parser(
        prog,
        "Merge pre-trained masked language models of different vocabularies into one multilingual student.",
        epilog="verbs:\n" + "\n".join(f"  {name:9}{verb.summary}" for name, verb in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of the verbs below; VERB --help describes it")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the verb's arguments")
    options = parser.parse_args()
    run_command(VERBS[options.verb].module, options.arguments, f"{prog} {options.verb}")
