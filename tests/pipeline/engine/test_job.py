"""Errors of a Beam job: what a worker or Dataflow says becomes one line."""

import logging

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException

import schemas.corpus.files
from pipeline.__main__ import _is_news
from pipeline.engine.job import running
from schemas.errors import ExhaustedError, UserError

FROM_WORKER = """Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1, in process
{error}: a disk is full (x); free space on it [while running 'Predict-ptransform-45']

Note: imports are needed"""


def message_of(error: Exception) -> str:
    with pytest.raises(UserError) as raised, running(PipelineOptions([])):
        raise error
    return str(raised.value)


@pytest.mark.parametrize("kind", [UserError, *UserError.__subclasses__()])
def test_an_error_of_a_worker_keeps_its_line(kind):
    assert {ExhaustedError, schemas.corpus.files.ChangedFileError} == set(UserError.__subclasses__())
    text = FROM_WORKER.format(error=f"{kind.__module__}.{kind.__name__}")
    line = "a disk is full (x); free space on it"
    assert message_of(RuntimeError(text)) == line
    failed = DataflowRuntimeException(f"Dataflow pipeline failed. State: FAILED, Error:\n{text}", None)
    assert message_of(failed) == line
    assert message_of(kind(f"{line} [while running 'Predict']")) == line
    assert not _is_news(logging.LogRecord("beam", logging.ERROR, "", 0, text, (), None))


def test_a_failed_dataflow_job_is_one_line():
    for said, shown in (("Traceback:\n  x = y[3]\nNo quota for 8 GPUs.\n", " (No quota for 8 GPUs.)"), ("None", "")):
        failed = DataflowRuntimeException(f"Dataflow pipeline failed. State: FAILED, Error:\n{said}", None)
        assert message_of(failed).startswith(
            f"Dataflow: the job ended as FAILED{shown}; see its log in the Cloud Console"
        )


def test_other_errors_keep_their_traceback():
    with pytest.raises(KeyError), running(PipelineOptions([])):
        raise KeyError("x")
