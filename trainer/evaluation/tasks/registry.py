"""The tasks that an evaluation knows, in the order of reports."""

from schemas.errors import UserError
from trainer.evaluation.config import EvaluationConfig
from trainer.evaluation.tasks.classification import Classification
from trainer.evaluation.tasks.cost import Cost
from trainer.evaluation.tasks.entities import EntityRecognition
from trainer.evaluation.tasks.likelihood import Likelihood
from trainer.evaluation.tasks.masked import Masked
from trainer.evaluation.tasks.minimal_pairs import MinimalPairs
from trainer.evaluation.tasks.plain_text import PlainTextTask, open_texts
from trainer.evaluation.tasks.question_answering import QuestionAnswering
from trainer.evaluation.tasks.retrieval import Retrieval
from trainer.evaluation.tasks.tagging import Tagging, TaggingProbe
from trainer.evaluation.tasks.task import Task
from trainer.evaluation.tasks.tokenization import Tokenization

TASKS: tuple[type[Task], ...] = (
    Likelihood,
    MinimalPairs,
    Masked,
    TaggingProbe,
    Tagging,
    EntityRecognition,
    Classification,
    QuestionAnswering,
    Retrieval,
    Tokenization,
    Cost,
)


def tasks_of(config: EvaluationConfig) -> dict[str, Task]:
    """Returns the tasks of a configuration, by key. The text is opened once for all of them.

    Raises:
      UserError: there are no tasks, or a file of one is bad.
    """
    texts = open_texts(config)
    made = [
        (kind(config, texts) if texts else None) if issubclass(kind, PlainTextTask) else kind.from_config(config)
        for kind in TASKS
    ]
    tasks = {task.key: task for task in made if task}
    if not tasks:
        raise UserError("nothing to evaluate on: give `text`, `tagging` or another task")
    return tasks
