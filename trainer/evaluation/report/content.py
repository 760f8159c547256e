"""What a report says, as plain records: `report.json` is these, and Markdown and HTML show them."""

from dataclasses import asdict, dataclass
from typing import Any

from trainer.evaluation.json_values import finite


@dataclass(frozen=True)
class ModelRecord:
    """A model: where it is loaded from, its tokens, and by language the model that it is compared with."""

    name: str
    model: str
    revision: str | None
    vocabulary_size: int
    languages: list[str] | None
    teachers: dict[str, str]


@dataclass(frozen=True)
class MetricRecord:
    """One figure of a task; `title` is how reports call it, `ranks` is as in `trainer.evaluation.tasks.task.Metric`."""

    key: str
    title: str
    higher_is_better: bool
    ranks: bool


@dataclass(frozen=True)
class TaskRecord:
    """A task; the first of its metrics is the one that summaries show, `hub_task` is what a hub calls it."""

    key: str
    title: str
    hub_task: str
    metrics: list[MetricRecord]


@dataclass(frozen=True)
class Result:
    """What a model reached.

    Attributes:
      trained_on: language of the labels; None where nothing is trained.
      language: of the test data.
      low, high: the ends of the 95 % interval.
      units: sentences, pairs or questions that it is a mean over.
      seeds: runs that were averaged.
      is_best: significantly better than all other models that were trained on the same language.
    """

    task: str
    metric: str
    model: str
    trained_on: str | None
    language: str
    value: float
    low: float
    high: float
    units: int
    seeds: int
    is_best: bool


@dataclass(frozen=True)
class Figure:
    """A further figure of a task, without an interval, averaged over seeds; those of `Calibration` and `Cost` are there."""

    task: str
    key: str
    model: str
    trained_on: str | None
    language: str
    value: float


@dataclass(frozen=True)
class Comparison:
    """A student against its teacher on the same test data.

    Attributes:
      difference: the student's value minus the teacher's; None where they cannot be compared.
      low, high: the ends of its 95 % interval.
      p: two-sided, of no difference.
      verdict: in words; where they cannot be compared, why not.
    """

    task: str
    metric: str
    student: str
    teacher: str
    trained_on: str | None
    language: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    verdict: str


@dataclass(frozen=True)
class Curve:
    """A loss over the steps of a training.

    Attributes:
      heldout_sha256: the held-out data of the losses; None for the MLM loss on training data.
      steps, losses: the points; losses are in nats a masked token.
    """

    model: str
    language: str
    heldout_sha256: str | None
    steps: list[int]
    losses: list[float]


@dataclass(frozen=True)
class Reach:
    """When other models first were as good as a model at its end, on the same held-out data.

    Attributes:
      model: whose final loss is to be reached.
      loss, steps: its final loss, and the step of that.
      reached: by other model, the step of its first evaluation with such a loss or a lower one; None if there is none.
    """

    model: str
    language: str
    loss: float
    steps: int
    reached: dict[str, int | None]


@dataclass(frozen=True)
class HeatMap:
    """A matrix of shares or scores; None where there is no value.

    Attributes:
      low, high: the ends of the scale of colours, the same for matrices that are compared.
    """

    title: str
    rows_title: str
    columns_title: str
    rows: list[str]
    columns: list[str]
    values: list[list[float | None]]
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """How far a model's confidence in masked tokens is from its accuracy.

    Attributes:
      ece: expected calibration error.
      counts, confidences, accuracies: of the tokens in each of ten equal bins of confidence; None in an empty bin.
    """

    model: str
    language: str
    ece: float
    counts: list[float]
    confidences: list[float | None]
    accuracies: list[float | None]


@dataclass(frozen=True)
class Cost:
    """What a model costs; None where it was not measured.

    Attributes:
      parameters, encoder_parameters: all, and without the rows of tokens.
      tokens_per_second, peak_memory_mib: of forward passes.
      evaluation_seconds: of all its jobs.
      training_steps, training_tokens_per_second: of students of this trainer; the speed is the median of log lines.
    """

    model: str
    parameters: float | None
    encoder_parameters: float | None
    tokens_per_second: float | None
    peak_memory_mib: float | None
    evaluation_seconds: float
    training_steps: int | None
    training_tokens_per_second: float | None


@dataclass(frozen=True)
class Content:
    """All that a report says."""

    title: str
    models: list[ModelRecord]
    tasks: list[TaskRecord]
    results: list[Result]
    figures: list[Figure]
    comparisons: list[Comparison]
    curves: list[Curve]
    reaches: list[Reach]
    transfer: list[HeatMap]
    overlap: list[HeatMap]
    calibration: list[Calibration]
    costs: list[Cost]

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is not a number is null."""
        return finite(asdict(self))
