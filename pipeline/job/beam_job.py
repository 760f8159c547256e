"""The Beam job: its graph, and the errors of its workers."""

import re

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

import pipeline.job.local_workers  # noqa: F401  (registers itself with Beam)
from pipeline.config import PipelineConfig
from pipeline.job.worker import PredictUnits
from pipeline.text.units import Unit
from schemas.errors import UserError

_WORKERS_ERROR = re.compile(r"UserError: (.+?)(?: \[while running .*|\n|$)")


def build(job: beam.Pipeline, units: list[Unit], config: PipelineConfig, step: PredictUnits) -> None:
    """The Beam pipeline: the names of units go in, and their files are written inside.

    Each teacher has a branch of its own, so that its workers can be of another kind, and seldom change their teacher.
    """
    for name, teacher in config.teachers.items():
        of_teacher = [tuple(unit) for unit in units if unit.teacher == name]
        if not of_teacher:
            continue
        predict: beam.PTransform = beam.ParDo(step)
        if hints := teacher.resource_hints:
            predict = predict.with_resource_hints(**hints)
        # Beam spreads what it creates over the workers.
        created = beam.Create(of_teacher)
        _ = job | f"Units of {name}" >> created | f"Predict with {name}" >> predict


def process(units: list[Unit], config: PipelineConfig, step: PredictUnits, options: PipelineOptions) -> None:
    """Runs the Beam pipeline. UserError where a worker raised one."""
    try:
        with beam.Pipeline(options=options) as job:
            build(job, units, config, step)
    except (UserError, RuntimeError, ValueError) as error:
        if "Pipeline has validations errors" in str(error):
            raise UserError(f"Beam: {' '.join(str(error).split())}") from None
        # Beam adds words to the error of a worker, and the errors of other processes come as text.
        if message := _WORKERS_ERROR.search(f"{type(error).__name__}: {error}"):
            raise UserError(message[1]) from None
        raise
