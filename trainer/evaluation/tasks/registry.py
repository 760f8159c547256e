"""The tasks that an evaluation knows, in the order of reports."""

from trainer.evaluation.tasks.likelihood import Likelihood
from trainer.evaluation.tasks.minimal_pairs import MinimalPairs
from trainer.evaluation.tasks.task import Task

TASKS: tuple[type[Task], ...] = (Likelihood, MinimalPairs)
