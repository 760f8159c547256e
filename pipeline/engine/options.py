"""Beam's options, and the kind of runner that they name."""

import os

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)

from schemas.errors import UserError

_LOCAL_RUNNERS = ("", "directrunner", "bundlebaseddirectrunner", "fnapirunner", "switchingdirectrunner")


def beam_options(arguments: list[str]) -> PipelineOptions:
    """Parses Beam's options. Raises UserError for an unknown option, which Beam would only warn about."""
    parser = _BeamArgumentParser(allow_abbrev=False)
    for part in PipelineOptions.__subclasses__():
        part._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(f"{unknown[0]}: neither an option of this command (see --help) nor of Beam")
    return PipelineOptions(arguments)


def is_local(options: PipelineOptions) -> bool:
    """Whether the runner starts its workers on this machine."""
    return (options.view_as(StandardOptions).runner or "").rpartition(".")[2].lower() in _LOCAL_RUNNERS


def works_here(options: PipelineOptions) -> bool:
    """Whether the runner works in this process."""
    return is_local(options) and options.view_as(DirectOptions).direct_running_mode != "multi_processing"


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the runner is Dataflow."""
    return "dataflow" in (options.view_as(StandardOptions).runner or "").lower()


def writes_template(options: PipelineOptions) -> bool:
    """Whether Beam only writes a template of the job."""
    return bool(is_dataflow(options) and options.view_as(GoogleCloudOptions).template_location)


def threads_a_process(options: PipelineOptions) -> int | None:
    """Returns the CPU threads of a worker process if the runner starts several on one machine; None for all cores."""
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == "multi_processing":
        cores = os.cpu_count() or 1
        return max(1, cores // (direct.direct_num_workers or cores))
    experiments = options.view_as(DebugOptions).experiments or []
    return 1 if is_dataflow(options) and "no_use_multiple_sdk_containers" not in experiments else None
