"""Runs a Beam job, and turns Beam's errors into this program's."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions

# Both register themselves with Beam.
import pipeline.engine.local_workers
import pipeline.engine.worker_pools  # noqa: F401
from schemas.errors import UserError

_WORKERS_ERROR = re.compile(r"UserError: (.+?)(?: \[while running .*|\n|$)")


@contextmanager
def running(options: PipelineOptions) -> Iterator[beam.Pipeline]:
    """Yields a Beam pipeline, which runs when the body has built it. Raises UserError if a worker raised one."""
    before, threading.excepthook = threading.excepthook, _report
    try:
        with beam.Pipeline(options=options) as job:
            yield job
    except (UserError, RuntimeError, ValueError) as error:
        if "Pipeline has validations errors" in str(error):
            raise UserError(f"Beam: {' '.join(str(error).split())}") from None
        # Beam adds text to a worker's error, and errors from other processes arrive as text.
        if message := _WORKERS_ERROR.search(f"{type(error).__name__}: {error}"):
            raise UserError(message[1]) from None
        raise
    finally:
        threading.excepthook = before


def _report(arguments: threading.ExceptHookArgs) -> None:
    """Hides the gRPC errors of Beam's threads that listen to a lost worker; the loss is reported elsewhere."""
    if not issubclass(arguments.exc_type, grpc.RpcError):
        threading.__excepthook__(arguments)
