"""A run that was checked but not started."""

from pipeline.config import PipelineConfig
from pipeline.job.prepare import Prepared, prepare
from pipeline.text.survey import find_text


def checked(config: PipelineConfig) -> Prepared:
    return prepare(config, find_text(config))
