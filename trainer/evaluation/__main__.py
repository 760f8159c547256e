"""`python -m trainer.evaluation CONFIG.yaml [KEY=VALUE ...]`, also run by `mergedistill evaluate`."""

from schemas.process import exit_code_of, run_command

if __name__ == "__main__":
    # Called before the slow imports, so that Ctrl-C during them is handled too.
    run_command("trainer.evaluation.__main__")

import argparse

from schemas.cli import command_parser
from schemas.config import OVERRIDES_HELP, describe_fields, load_config
from trainer.evaluation.config import EvaluationConfig


def main(arguments: list[str], prog: str = "python -m trainer.evaluation") -> int:
    """Evaluates models and writes a report; returns the exit code: 0 done, 2 bad input."""
    parser = command_parser(
        prog,
        "Evaluate models on text and labelled files: a report in JSON, Markdown and HTML, with intervals. Rerun the same "
        "command to go on: what is scored is kept.",
        epilog="configuration fields:\n" + describe_fields(EvaluationConfig),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration; its fields are listed below")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=OVERRIDES_HELP)
    options = parser.parse_intermixed_args(arguments)
    return exit_code_of(lambda: _run(options.config, options.overrides))


def _run(path: str, overrides: list[str]) -> int:
    config = load_config(path, EvaluationConfig, overrides)
    # Imported late so that --help and errors in the configuration do not wait for torch.
    from transformers.utils.logging import disable_progress_bar

    from trainer.evaluation.comparison.compare import compare
    from trainer.evaluation.comparison.corpora import estimate_bytes
    from trainer.evaluation.comparison.outputs import write_comparison
    from trainer.evaluation.comparison.routing import check_routing
    from trainer.evaluation.report.collect import check_folders
    from trainer.evaluation.report.write import write_report
    from trainer.evaluation.run import run_evaluation

    disable_progress_bar()
    # Check files that are read or written after the models run, before spending time on the models.
    corpus_bytes = {}
    if config.comparison:
        check_routing(config.comparison.routing)
        corpus_bytes = estimate_bytes(config.comparison.corpora)
    check_folders(config)
    evaluation = run_evaluation(config)
    print(write_report(evaluation))
    if config.comparison:
        print(write_comparison(compare(evaluation, corpus_bytes), config, config.comparison.routing))
    return 0
