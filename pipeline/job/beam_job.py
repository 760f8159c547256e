"""The Beam job and its graph."""

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.config import PipelineConfig
from pipeline.engine.job import running
from pipeline.job.worker import PredictUnits
from pipeline.text.units import Unit


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
    with running(options) as job:
        build(job, units, config, step)
