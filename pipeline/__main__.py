"""`python -m pipeline CONFIG.yaml [Beam options]`."""

import argparse
import logging
import sys

from pipeline.config import PipelineConfig
from schemas.config import describe_fields, load_config
from schemas.errors import UserError, exit_code_of


def main(arguments: list[str]) -> int:
    """Runs stage one; returns the exit code (0 done, 2 bad input)."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Tokenize and mask text, keep each teacher's top-k predictions, remap them into one merged "
        "vocabulary and write Parquet. Rerun the same command to resume; finished shards are skipped.",
        epilog="configuration fields:\n" + describe_fields(PipelineConfig),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration, fields below")
    parser.add_argument(
        "beam_options", nargs=argparse.REMAINDER, help="passed on to Apache Beam, e.g. --runner=DataflowRunner"
    )
    options, more = parser.parse_known_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger().handlers[0].addFilter(_is_news)
    return exit_code_of(lambda: _run(options.config, [*more, *options.beam_options]))


def _is_news(record: logging.LogRecord) -> bool:
    """Whether to show a log record: not Beam's word on optional parts, nor a traceback of a user's error."""
    users = record.exc_info and isinstance(record.exc_info[1], UserError)
    return not users and not record.getMessage().startswith("apitools not found")


def _run(path: str, beam_arguments: list[str]) -> None:
    config = load_config(path, PipelineConfig)
    # Imported late: --help and a bad configuration should not wait for Beam and torch.
    from transformers.utils.logging import disable_progress_bar

    from pipeline.run import run_pipeline

    disable_progress_bar()
    manifest = run_pipeline(config, beam_arguments)
    for record in manifest.languages:
        rejected = sum(record.rejected.values())
        print(
            f"{record.language} ({record.teacher}): {record.rows:,} rows from {record.used:,} records, "
            f"{rejected:,} rejected"
        )
    rows = sum(file.rows for file in manifest.files)
    print(f"{config.output}: {rows:,} rows in {len(manifest.files)} files, {manifest.vocabulary.size:,} merged tokens")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
