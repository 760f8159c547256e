"""`python -m trainer CONFIG.yaml [KEY=VALUE ...]`, alone or under torchrun; `mergedistill train` too."""

from schemas.process import EXIT_AGAIN, exit_code_of, run_command

if __name__ == "__main__":
    # Before the slow imports, so that Ctrl-C works during them too.
    run_command("trainer.__main__")

import argparse
import logging
import sys

from schemas.cli import command_parser
from schemas.config import OVERRIDES_HELP, describe_fields, load_config
from trainer.config import TrainerConfig


def main(arguments: list[str], prog: str = "python -m trainer") -> int:
    """Runs stage two; returns the exit code: 0 done, 2 bad input, 75 saved after SIGTERM (run it again)."""
    parser = command_parser(
        prog,
        "Train one student from the pipeline's Parquet, evaluate it on held-out predictions and export it. "
        "Rerun the same command to resume from the newest checkpoint. On SIGTERM it saves a checkpoint and exits with code 75. "
        "For several GPUs: torchrun --nproc-per-node=8 -m trainer CONFIG.yaml",
        epilog="configuration fields:\n" + describe_fields(TrainerConfig),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration; its fields are listed below")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=OVERRIDES_HELP)
    options = parser.parse_intermixed_args(arguments)
    return exit_code_of(lambda: _run(options.config, options.overrides))


def _run(path: str, overrides: list[str]) -> int:
    config = load_config(path, TrainerConfig, overrides)
    # Imported late: --help and a bad configuration should not wait for torch.
    from transformers.utils.logging import disable_progress_bar

    from trainer.distributed import start_runtime, stop_runtime
    from trainer.loop.train import Interrupted, train

    disable_progress_bar()
    runtime = start_runtime(config.precision)
    if runtime.is_main:
        _print_messages()
    try:
        train(config, runtime)
    except Interrupted as interrupted:
        if runtime.is_main:
            print(f"{interrupted}; run the same command again to go on", file=sys.stderr)
        return EXIT_AGAIN
    finally:
        stop_runtime()
    return 0


def _print_messages() -> None:
    """Sends the trainer's log messages to stdout unformatted; leaves those of other libraries alone."""
    messages = logging.getLogger("trainer")
    messages.handlers = [logging.StreamHandler(sys.stdout)]
    messages.setLevel(logging.INFO)
    messages.propagate = False
