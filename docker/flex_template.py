"""The program that a Flex Template's launcher calls: `python -m pipeline`, with the template's parameters as arguments."""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from pipeline.__main__ import main
from schemas.errors import UserError
from schemas.process import exit_code_of
from schemas.storage import exists, read_bytes


def launch(parameters: list[str]) -> int:
    """Runs the command with the parameters in `flex_template.json`; others are Beam options. Returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config", required=True)
    parser.add_argument("--overrides", default="")
    ours, options = parser.parse_known_args(parameters)
    with tempfile.TemporaryDirectory() as folder:
        # The command only reads local files.
        config = Path(folder, ours.config.rpartition("/")[2])
        return exit_code_of(lambda: _fetch(ours.config, config)) or main(
            [str(config), *shlex.split(ours.overrides), *options]
        )


def _fetch(url: str, target: Path) -> None:
    if not exists(url):
        raise UserError(f"{url}: not found")
    target.write_bytes(read_bytes(url))


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
