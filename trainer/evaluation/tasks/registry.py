"""The tasks that an evaluation knows, in the order of reports."""

from trainer.evaluation.tasks.classification import Classification
from trainer.evaluation.tasks.cost import Cost
from trainer.evaluation.tasks.entities import EntityRecognition
from trainer.evaluation.tasks.likelihood import Likelihood
from trainer.evaluation.tasks.masked import Masked
from trainer.evaluation.tasks.minimal_pairs import MinimalPairs
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
