"""The content of a report, as plain records: `report.json` has them, and Markdown and HTML show them."""

from dataclasses import asdict, dataclass
from typing import Any

from trainer.evaluation.json_values import finite
from trainer.evaluation.tasks.task import Metric

# Verdicts of a `Comparison`; others say why two models cannot be compared.
STUDENT_BETTER, TEACHER_BETTER, UNCLEAR = "student is better", "teacher is better", "no clear difference"


@dataclass(frozen=True)
class ModelRecord:
    """A model.

    Attributes:
      model: where it is loaded from.
      tokenizer: `language` or `default`, as configured; `only one` if the model has no tokenizers of languages.
      default_for: languages that are read with the default tokenizer because there is none for them.
      teachers: by language, the model that it is compared with.
    """

    name: str
    model: str
    revision: str | None
    vocabulary_size: int
    tokenizer: str
    default_for: list[str]
    languages: list[str] | None
    teachers: dict[str, str]


@dataclass(frozen=True)
class TaskRecord:
    """A task; summaries show the first of its metrics.

    Attributes:
      hub_task: its name on a hub.
      unit: what its metrics are summed over, in the singular.
    """

    key: str
    title: str
    hub_task: str
    unit: str
    metrics: list[Metric]


@dataclass(frozen=True)
class Result:
    """One result of a model.

    Attributes:
      trained_on: language of the labels; None if nothing is trained.
      language: of the test data.
      low, high: the ends of the 95 % interval.
      units: the number of sentences, pairs or questions behind it.
      seeds: runs that were averaged.
      seed_values: the value of each run, in the order of the seeds.
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
    seed_values: list[float]
    is_best: bool


@dataclass(frozen=True)
class Figure:
    """A further figure of a task, averaged over seeds, without an interval; `Calibration` and `Cost` have their own."""

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
      difference: the student's value minus the teacher's; None if they cannot be compared.
      low, high: the ends of its 95 % interval.
      p: two-sided p-value of no difference.
      verdict: in words; if they cannot be compared, why not.
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

    @property
    def is_crossing(self) -> bool:
        """Whether labels of one language are tested in another, for which the teacher may not have been made."""
        return self.trained_on not in (None, self.language)


@dataclass(frozen=True)
class Curve:
    """A loss over the steps of a training.

    Attributes:
      heldout_sha256: the held-out data of the losses; None for the MLM loss on training data.
      steps, losses: the points; losses are in nats per masked token.
    """

    model: str
    language: str
    heldout_sha256: str | None
    steps: list[int]
    losses: list[float]


@dataclass(frozen=True)
class Reach:
    """The step at which other models first reach a model's final loss on the same held-out data.

    Attributes:
      model: the model whose final loss, that of its exported weights, is the target.
      heldout_sha256: the held-out data of the losses.
      loss, steps: its final loss and the step of that loss.
      reached: by other model, the step of its first evaluation at or below this loss; None if there is none.
    """

    model: str
    language: str
    heldout_sha256: str
    loss: float
    steps: int
    reached: dict[str, int | None]


@dataclass(frozen=True)
class HeatMap:
    """A matrix of shares or scores; None for a missing value.

    Attributes:
      low, high: the ends of the colour scale, the same for matrices that are compared.
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
    """The costs of a model; None if not measured.

    Attributes:
      parameters, encoder_parameters: of the whole model, and of the encoder without token embeddings.
      tokens_per_second, peak_memory_mib: of forward passes.
      evaluation_seconds: of all its jobs.
      training_steps, training_tokens_per_second: of students of this trainer; the speed is the median of log lines.
      exported_step: the step of such a student's weights; it is not the last one if the best student is exported.
    """

    model: str
    parameters: float | None
    encoder_parameters: float | None
    tokens_per_second: float | None
    peak_memory_mib: float | None
    evaluation_seconds: float
    training_steps: int | None
    exported_step: int | None
    training_tokens_per_second: float | None


@dataclass(frozen=True)
class DataRecord:
    """The files behind the figures of some tasks in one language.

    Attributes:
      section: the section of the configuration that names the files.
      tasks: the titles of the tasks that read them.
      name: the language; in retrieval, the name of the pair of files.
      unit: what is counted, in the singular.
      files: by use (`test`, `train` or `validation`).
      units: how many were tested on, trained on, or used to choose the layer, by use; `test` is missing if no model was
        tested.
    """

    section: str
    tasks: list[str]
    name: str
    unit: str
    files: dict[str, list[str]]
    units: dict[str, int]


@dataclass(frozen=True)
class Measurement:
    """What was measured, and how.

    Attributes:
      max_length: tokens of a piece of text.
      top_k: the guesses that the tail mass leaves out.
      fine_tuning: its settings; None if no model was trained.
      seeds: of the fine-tuning; empty if nothing was repeated.
      bootstrap_samples: resamplings behind an interval, and exchanges behind a p-value.
      confidence_level: of intervals.
      significance: a difference is clear only if its p-value is below this.
      versions: of packages.
      device: that the models ran on.
    """

    data: list[DataRecord]
    max_length: int
    top_k: int
    fine_tuning: dict[str, float | int | None] | None
    seeds: list[int]
    bootstrap_samples: int
    confidence_level: float
    significance: float
    versions: dict[str, str]
    device: str


@dataclass(frozen=True)
class Content:
    """The content of a report.

    Attributes:
      languages: all that something is evaluated in, in the order of the configuration.
    """

    title: str
    languages: list[str]
    measurement: Measurement
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
        """Returns JSON values; numbers that are not finite become null."""
        return finite(asdict(self))
