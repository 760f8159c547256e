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
                f"{config.output}: {changed}, but {by} goes by the number of steps from the first one on, so this "
                "would be another run; put max_steps back, or begin another run from what this one exported, in another "
                f"output, with student: {{start_from: {config.output}}}"
            )
        if step > config.max_steps:
            raise UserError(
                f"{config.output}: max_steps is {config.max_steps}, but it is at step {step} already; give it more, or export "
                "an earlier checkpoint by `python -m trainer.export`"
            )
    elif changed:
        raise UserError(
            f"{config.output}: its checkpoint of step {step} is of another run ({changed}); choose another output, or "
            "remove this one"
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
