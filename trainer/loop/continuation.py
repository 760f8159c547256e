"""Whether a run may go on from a checkpoint: only to the weights that it would have had without a stop."""

from schemas.errors import UserError, differences
from trainer.config import TrainerConfig


def check_continuation(config: TrainerConfig, step: int, theirs: dict, ours: dict) -> None:
    """Refuses to go on from the checkpoint of `step` in the output folder where it is of another run.

    Another number of steps makes no other run where nothing that is done at a step depends on it.

    Args:
      theirs, ours: everything that decides the weights, JSON values: the checkpoint's, and the configuration's.

    Raises:
      UserError: they differ, and in what; or the checkpoint is past the last step.
    """
    changed = differences(theirs, ours)
    if changed and not differences(theirs | {"max_steps": 0}, ours | {"max_steps": 0}):
        if by := _planned_by_steps(config):
            raise UserError(
                f"{config.output}: {changed}, but {by} goes by the number of steps from the first one on, so this "
                "would be no such run; put max_steps back, or begin another run from what this one exported, in another "
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
    """What changes from the first step to the last."""
    if config.optimizer.lr_scheduler_type != "constant_with_warmup":
        return f"the learning rate (optimizer.lr_scheduler_type: {config.optimizer.lr_scheduler_type})"
    weights = [config.distillation, *config.distillation.languages.values()]
    if any(weight.final_kd_weight not in (None, weight.kd_weight) for weight in weights):
        return "lambda (distillation.final_kd_weight)"
    return None
