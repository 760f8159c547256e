"""Checks whether a run may resume from a checkpoint: only if its weights will be the same as without a stop."""

from schemas.errors import UserError, differences
from trainer.config import TrainerConfig


def check_continuation(config: TrainerConfig, step: int, theirs: dict, ours: dict) -> None:
    """Refuses to resume from the checkpoint of `step` in the output folder if it belongs to another run.

    A run with another number of steps is the same run if nothing that a step does depends on that number.

    Args:
      theirs, ours: everything that decides the weights (`run_spec`), from the checkpoint and from the configuration.

    Raises:
      UserError: they differ (names the differences), or the checkpoint is past the last step.
    """
    changed = differences(theirs, ours)
    if changed and not differences(theirs | {"max_steps": 0}, ours | {"max_steps": 0}):
        if by := _planned_by_steps(config):
            raise UserError(
                f"{config.output}: {changed}, but {by} depends on max_steps at every step, so this would be another run; "
                "set max_steps back, or start a new run from this one's exported student, in another output, with "
                f"student: {{start_from: {config.output}}}"
            )
        if step > config.max_steps:
            raise UserError(
                f"{config.output}: max_steps is {config.max_steps}, but the run is already at step {step}; raise max_steps, or "
                "export an earlier checkpoint with `mergedistill export`"
            )
    elif changed:
        raise UserError(
            f"{config.output}: its checkpoint of step {step} is from another run ({changed}); choose another output, or "
            "remove this folder"
        )


def _planned_by_steps(config: TrainerConfig) -> str | None:
    """Returns what changes from the first step to the last, and so depends on the number of steps."""
    if config.optimizer.lr_scheduler_type != "constant_with_warmup":
        return f"the learning rate (optimizer.lr_scheduler_type: {config.optimizer.lr_scheduler_type})"
    if any(weight.final_kd_weight not in (None, weight.kd_weight) for weight in config.distillation.weights):
        return "lambda (distillation.final_kd_weight)"
    if config.stages:
        return "the stage (stages)"
    return None
