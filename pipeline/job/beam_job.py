"""The Beam job: its graph, its options, and the errors of its workers."""

import os
import re

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)

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


def beam_options(arguments: list[str]) -> PipelineOptions:
    """Beam's options. UserError for an option that Beam does not know, which it would only warn about."""
    parser = _BeamArgumentParser(allow_abbrev=False)
    for part in PipelineOptions.__subclasses__():
        part._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(f"{unknown[0]}: no option of this command (see --help), nor of Beam")
    return PipelineOptions(arguments)


def threads_a_process(options: PipelineOptions) -> int | None:
    """CPU threads of a worker process, where the runner starts several on one machine; None for all cores."""
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == "multi_processing":
        cores = os.cpu_count() or 1
        return max(1, cores // (direct.direct_num_workers or cores))
    experiments = options.view_as(DebugOptions).experiments or []
    return 1 if is_dataflow(options) and "no_use_multiple_sdk_containers" not in experiments else None


def writes_template(options: PipelineOptions) -> bool:
    """Whether Beam only writes a template of the job."""
    return bool(is_dataflow(options) and options.view_as(GoogleCloudOptions).template_location)


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the runner is Dataflow."""
    return "dataflow" in (options.view_as(StandardOptions).runner or "").lower()
