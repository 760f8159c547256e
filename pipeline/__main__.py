"""`python -m pipeline CONFIG.yaml [KEY=VALUE ...] [Beam options]`; `mergedistill predict` too."""

from schemas.process import exit_code_of, run_command

if __name__ == "__main__":
    # Runs before the imports, which take seconds, so that Ctrl-C works during them too.
    run_command("pipeline.__main__")

import argparse
import logging
import re

from pipeline.config import PipelineConfig
from schemas.cli import command_parser
from schemas.config import OVERRIDES_HELP, describe_fields, load_config
from schemas.errors import USERS_ERROR, UserError
from schemas.manifest import Manifest
from schemas.secrets import without_secrets

_NO_NEWS = ("apitools not found", "Failed to read inputs in the data plane")


def main(arguments: list[str], prog: str = "python -m pipeline") -> int:
    """Runs stage one; returns the exit code (0 done, 2 bad input)."""
    parser = command_parser(
        prog,
        "Tokenize and mask text, keep each teacher's top-k predictions, remap them into one merged "
        "vocabulary and write Parquet. Rerun the same command to resume; finished shards are skipped.",
        epilog=f"KEY=VALUE: {OVERRIDES_HELP}\n\nconfiguration fields:\n" + describe_fields(PipelineConfig),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration; its fields are listed below")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, write nothing, and print an estimate of the run's rows, bytes and hours from a sample",
    )
    parser.add_argument(
        "--teraflops",
        type=float,
        metavar="RATE",
        help="for --dry-run: teraFLOP/s that all workers sustain together; default: measured on this machine",
    )
    parser.add_argument(
        "--part",
        metavar="I/N",
        help="without Beam: do only part I of N (I from 1 to N). Call the command once for each part, on any machine that "
        "can read the text and write to the output",
    )
    parser.add_argument("--finish", action="store_true", help="after all parts: write the tokenizers and the manifest")
    parser.usage = (
        f"{prog} CONFIG.yaml [KEY=VALUE ...] [--dry-run [--teraflops RATE] | --part I/N | --finish] "
        "[Beam options, e.g. --runner=...]"
    )
    options, rest = parser.parse_known_args(arguments)
    overrides, beam_arguments = _split(rest)
    _show_logs()
    if options.part is not None or options.finish:
        return exit_code_of(lambda: _run_part(options, overrides, beam_arguments))
    if options.dry_run:
        return exit_code_of(lambda: _dry_run(options.config, overrides, beam_arguments, options.teraflops))
    return exit_code_of(lambda: _run(options.config, overrides, beam_arguments))


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Returns (overrides, Beam's options): a word after an option without `=` is that option's value."""
    overrides: list[str] = []
    beam_arguments: list[str] = []
    is_value = False
    for argument in arguments:
        is_option = argument.startswith("-")
        (beam_arguments if is_option or is_value else overrides).append(argument)
        is_value = is_option and "=" not in argument
    return overrides, beam_arguments


def _show_logs() -> None:
    logging.basicConfig(level=logging.WARNING)
    handler = logging.getLogger().handlers[0]
    handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_is_news)
    logging.getLogger("pipeline").setLevel(logging.INFO)


class _Formatter(logging.Formatter):
    """Shows the pipeline's progress messages (INFO) unchanged, and other messages with their level and source."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.levelno == logging.INFO else super().format(record)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether to show a log record: hides what is reported elsewhere, and Beam's messages about its optional parts."""
    error = record.exc_info[1] if record.exc_info else None
    message = record.getMessage()
    is_users = isinstance(error, UserError) or re.search(USERS_ERROR, f"{error}\n{message}")
    # gcsfs also raises whatever it logs.
    return not is_users and not message.startswith(_NO_NEWS) and record.name != "gcsfs"


def _dry_run(path: str, overrides: list[str], beam_arguments: list[str], teraflops: float | None) -> None:
    config = _load(path, overrides)
    from pipeline.job.dry_run import describe
    from pipeline.job.launcher import dry_run

    print(describe(dry_run(config, beam_arguments), teraflops))


def _run(path: str, overrides: list[str], beam_arguments: list[str]) -> None:
    config = _load(path, overrides)
    from pipeline.job.launcher import run_pipeline

    manifest = run_pipeline(config, beam_arguments)
    if not manifest:
        print(
            f"{without_secrets(config.output)}: the job's template is written; run it, then run this command again to finish"
        )
        return
    _describe(config, manifest)


def _run_part(options: argparse.Namespace, overrides: list[str], beam_arguments: list[str]) -> None:
    if beam_arguments:
        raise UserError(
            f"{beam_arguments[0]}: not an option of --part or --finish, which run without Beam (see --help)"
        )
    if options.dry_run or (options.part is not None and options.finish):
        raise UserError("--dry-run, --part and --finish exclude each other; give only one of them")
    number, count = _part(options.part) if options.part is not None else (0, 0)
    config = _load(options.config, overrides)
    from pipeline.job.launcher import finish_run, run_part

    if options.finish:
        _describe(config, finish_run(config))
        return
    units = run_part(config, number, count)
    print(
        f"{without_secrets(config.output)}: part {number} of {count} is done ({units:,} units of work); "
        "after all parts, run this command with --finish"
    )


def _part(value: str) -> tuple[int, int]:
    """Returns the two numbers of `--part I/N`. Raises UserError for anything else."""
    number, separator, count = value.partition("/")
    if not (separator and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part {value}: expected I/N with I from 1 to N, such as 2/8")
    return int(number), int(count)


def _describe(config: PipelineConfig, manifest: Manifest) -> None:
    """Prints the results of a run."""
    for record in manifest.languages:
        rejected = sum(record.rejected.values())
        print(
            f"{record.language} ({record.teacher}): {record.rows:,} rows from {record.used:,} records, "
            f"{rejected:,} rejected"
        )
        if audit := record.audit:
            print(
                f"  audit of {audit.positions:,} positions: KL(teacher || stored) {audit.kl:.4f} nats, of which "
                f"{audit.kl - audit.kl_top_k:.1e} from rounding, the rest from keeping only {manifest.top_k}; tail mass "
                f"{audit.tail_mass:.3f}; first prediction right {audit.accuracy:.1%}"
            )
            if audit.sampled_error is not None:
                print(
                    f"  {manifest.tail_samples} tail samples: estimated cross-entropy is off by "
                    f"{audit.sampled_error:.3f} nats at a single position, by {audit.sampled_bias:+.4f} on average"
                )
    rows = sum(record.rows for record in manifest.languages)
    print(
        f"{without_secrets(config.output)}: {rows:,} rows in {len(manifest.files)} files, {manifest.vocabulary.size:,} merged tokens"
    )


def _load(path: str, overrides: list[str]) -> PipelineConfig:
    """Loads the configuration before the imports that take seconds, so that a bad field is reported at once."""
    config = load_config(path, PipelineConfig, overrides)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return config
