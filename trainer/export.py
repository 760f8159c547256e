"""`python -m trainer.export CONFIG.yaml`: exports a checkpoint as a folder that plain transformers loads."""

from schemas.process import exit_code_of, run_command

if __name__ == "__main__":
    # Before the slow imports, so that Ctrl-C works during them too.
    run_command("trainer.export")

import argparse

from schemas.cli import command_parser
from schemas.config import OVERRIDES_HELP, load_config
from schemas.errors import UserError
from schemas.lock import owning
from schemas.paths import path_option
from schemas.predictions import open_predictions
from trainer.artifacts.checkpoint import checkpoint_steps, load_state
from trainer.artifacts.export import export_checkpoint
from trainer.config import TrainerConfig
from trainer.data.stages import open_stages


def _step(output: str, wanted: str) -> int:
    """Returns the step that `wanted` names: last, best, or a number. Raises UserError if it has no checkpoint."""
    steps = checkpoint_steps(output)
    if not steps:
        raise UserError(f"{output}: has no checkpoint yet; train first")
    best = load_state(output, steps[-1]).early_stopping.best_step
    named = {"last": steps[-1], "best": best, **{str(step): step for step in steps}}
    step = named.get(wanted)
    if step is None:
        why = "no evaluation yet" if wanted == "best" else "no such checkpoint"
        raise UserError(f"--checkpoint {wanted}: {why}; {output} has checkpoints of steps {', '.join(map(str, steps))}")
    return step


def _export(options: argparse.Namespace) -> None:
    config = load_config(options.config, TrainerConfig, options.overrides)
    folder = path_option(options.to, "--to")
    if "://" in folder:
        raise UserError(f"--to {folder}: must be a local folder; copy it to a bucket afterwards")
    step = _step(config.output, options.checkpoint)
    heldout_sha256 = load_state(config.output, checkpoint_steps(config.output)[-1]).early_stopping.heldout_sha256
    predictions = open_predictions(*config.predictions)
    stages = open_stages(config, predictions)
    with owning(folder):
        export_checkpoint(config, predictions, stages, step, heldout_sha256, folder)
    print(f"{folder}: wrote the student of step {step}")


def main(arguments: list[str], prog: str = "python -m trainer.export") -> int:
    """Exports one checkpoint; returns the exit code: 0 done, 2 bad input."""
    parser = command_parser(
        prog,
        "Export a checkpoint of a run, finished or not, as a folder that transformers loads: weights, "
        "tokenizers, model card.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the run's configuration")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=OVERRIDES_HELP)
    parser.add_argument(
        "--checkpoint", default="last", metavar="STEP", help="the step of a checkpoint, `last` (default) or `best`"
    )
    parser.add_argument("--to", required=True, metavar="FOLDER", help="local folder to write the student to")
    options = parser.parse_intermixed_args(arguments)
    return exit_code_of(lambda: _export(options))
