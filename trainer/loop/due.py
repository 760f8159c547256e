"""What is due after a step."""

from dataclasses import dataclass

from trainer.config import TrainerConfig


@dataclass(frozen=True)
class Due:
    """What is due after a step.

    Attributes:
      log: a line of metrics.
      evaluate: an evaluation.
      is_planned: the evaluation would also be due in a longer run.
      save: a checkpoint. An evaluation that turns out to be the best or the last also makes one due.
    """

    log: bool
    evaluate: bool
    is_planned: bool
    save: bool


def due_after(step: int, config: TrainerConfig, asked_to_end: bool = False) -> Due:
    """Returns what is due after `step` of 1..max_steps. If asked to end, a run evaluates when it resumes."""
    is_last = step >= config.max_steps
    is_planned = config.eval_steps is not None and step % config.eval_steps == 0
    return Due(
        log=is_last or step % config.logging_steps == 0,
        evaluate=bool(config.heldout) and not asked_to_end and (is_last or is_planned),
        is_planned=is_planned,
        save=is_last or asked_to_end or step % config.save_steps == 0,
    )
