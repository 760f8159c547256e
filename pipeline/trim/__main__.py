"""`python -m pipeline.trim FOLDER --output FOLDER`: leaves out the tokens that the corpora do not use.

A merged vocabulary holds every token of every teacher, but text in a few languages uses
only some of them, and each costs the student a row of its embedding. The command keeps the
tokens that the corpora emit or that a teacher predicts for them, and the pieces that BPE
needs to build them. The result is a folder of predictions like any other, in the smaller
id space. No teacher runs again.
"""

from schemas.process import exit_code_of, run_command

if __name__ == "__main__":
    # Runs before the imports, which take seconds, so that Ctrl-C works during them too.
    run_command("pipeline.trim.__main__")

import argparse
import json
import os

from pipeline.engine.tasks import runner_of
from pipeline.trim.folders import format_report, trim
from schemas.cli import command_parser
from schemas.errors import UserError
from schemas.lock import owning
from schemas.paths import check_output_file, path_option
from schemas.predictions import open_predictions
from schemas.storage import write_bytes


def _positive(value: str) -> int:
    if not (value.isdecimal() and int(value)):
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, not {value!r}")
    return int(value)


def _run(options: argparse.Namespace, beam_arguments: list[str]) -> None:
    options.folders = [path_option(folder, "FOLDER") for folder in options.folders]
    for name in ("output", "vocabulary_from", "json"):
        if (value := getattr(options, name)) is not None:
            setattr(options, name, path_option(value, f"--{name.replace('_', '-')}"))
    if options.json:
        check_output_file(options.json)
    sources = [os.path.normpath(folder) for folder in [*options.folders, options.vocabulary_from] if folder]
    if os.path.normpath(options.output) in sources:
        raise UserError(f"--output {options.output}: is also one of the folders to read; choose another")
    run_tasks = runner_of(beam_arguments, options.output)
    with owning(options.output):
        report = trim(
            open_predictions(*options.folders),
            options.output,
            options.vocabulary_from,
            options.min_predicted,
            run_tasks,
        )
    print(format_report(report, options.hidden_size))
    if options.json:
        write_bytes(options.json, json.dumps(report, indent=2).encode() + b"\n")


def main(arguments: list[str], prog: str = "python -m pipeline.trim") -> int:
    """Trims; returns the exit code (0 done, 2 bad input)."""
    parser = command_parser(
        prog,
        "Write the predictions again over a smaller merged vocabulary, without the tokens that occur neither in the text nor "
        "in the predictions. Predictions outside it count as tail mass. With Beam options (--NAME=VALUE, such as "
        "--runner=...), Beam's workers count and write.",
    )
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="folders that the pipeline wrote: one, and the folders that it extends",
    )
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="the trimmed folder to write; run again to resume"
    )
    parser.add_argument(
        "--vocabulary-from", metavar="FOLDER", help="use this trimmed folder's vocabulary, e.g. for held-out text"
    )
    parser.add_argument(
        "--min-predicted",
        type=_positive,
        default=1,
        metavar="N",
        help="keep a token that never occurs in the text if it is predicted at least N times (1)",
    )
    parser.add_argument(
        "--hidden-size",
        type=_positive,
        default=768,
        metavar="H",
        help="width of the student, for the saved parameters in the report (768)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the report to this file, as JSON")
    options, beam_arguments = parser.parse_known_args(arguments)
    return exit_code_of(lambda: _run(options, beam_arguments))
