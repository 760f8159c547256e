"""The Beam job and its graph."""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.config import PipelineConfig
from pipeline.engine.job import running
from pipeline.job.worker import PredictUnits
from pipeline.text.units import Unit


def build(job: beam.Pipeline, units: list[Unit], config: PipelineConfig, step: PredictUnits) -> None:
    """Builds the Beam pipeline: its input is the names of units, and its steps write their files.

    Each teacher has its own branch, so that its workers can be of a different kind and rarely switch teachers.
    """
    for name, teacher in config.teachers.items():
        of_teacher = [tuple(unit) for unit in units if unit.teacher == name]
        if not of_teacher:
            continue
        predict: beam.PTransform = beam.ParDo(step)
        if hints := teacher.resource_hints:
            predict = predict.with_resource_hints(**hints)
        # Beam distributes the created elements over the workers.
        created = beam.Create(of_teacher)
        _ = job | f"Units of {name}" >> created | f"Predict with {name}" >> predict


def process(units: list[Unit], config: PipelineConfig, step: PredictUnits, options: PipelineOptions) -> None:
    """Runs the Beam pipeline. Raises UserError if a worker raises one."""
    with running(options) as job:
        build(job, units, config, step)
