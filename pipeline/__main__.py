"""`python -m pipeline CONFIG.yaml [Beam options]`."""

import argparse
import logging
import sys

from pipeline.config import PipelineConfig
from schemas.config import describe_fields, load_config
from schemas.errors import exit_code_of


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
    return exit_code_of(lambda: _run(options.config, [*more, *options.beam_options]))


def _run(path: str, beam_arguments: list[str]) -> None:
    config = load_config(path, PipelineConfig)
    # Imported late: --help and a bad configuration should not wait for Beam and torch.
    from pipeline.run import run_pipeline

    manifest = run_pipeline(config, beam_arguments)
    for record in manifest.languages:
        rejected = sum(record.rejected.values())
        print(f"{record.language} ({record.teacher}): {record.rows:,} rows from {record.used:,} records, {rejected:,} rejected")
    print(f"{config.output}: {sum(file.rows for file in manifest.files):,} rows in {len(manifest.files)} files, "
          f"{manifest.vocabulary.size:,} merged tokens")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
