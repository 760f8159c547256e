"""`mergedistill inspect FOLDER`: shows predictions in human-readable form."""

import argparse

from schemas.cli import command_parser
from schemas.inspect import inspect_row, summarize
from schemas.paths import path_option
from schemas.predictions import open_predictions
from schemas.process import exit_code_of

_LEGEND = """\
the summary's columns:
  records       text records that were read; each was used, or rejected for a reason in the last column
  tokens        tokens of all rows, special tokens included
  masked        positions with a target, whether their token was masked, replaced or kept
  bytes/masked  bytes of the Parquet files per masked position
  top-1         share of masked positions where the teacher's first prediction is the label
  log p(label)  mean log-probability that the teacher gives the label, in nats
"""


def main(arguments: list[str], prog: str = "mergedistill inspect") -> int:
    """Prints the summary or the row; returns the exit code (0 done, 2 bad input)."""
    parser = command_parser(
        prog,
        "Print a summary of a folder of predictions or, with --row, one row as text, with the tokens that its teacher "
        "predicts.",
        epilog=_LEGEND,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", help="folder that the pipeline wrote: a path or a URL (gs://...)")
    parser.add_argument(
        "--row", type=int, metavar="N", help="show this row, counted from 0 in the order of the manifest's files"
    )
    parser.add_argument("--language", metavar="L", help="only this language; --row then counts only its rows")
    options = parser.parse_args(arguments)
    return exit_code_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    predictions = open_predictions(path_option(options.folder, "FOLDER"))
    if options.row is None:
        print(summarize(predictions, options.language))
    else:
        print(inspect_row(predictions, options.row, options.language))
