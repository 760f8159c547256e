"""A Beam job, whose errors are those of this program."""

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
    """A Beam pipeline, which runs when the body has built it. UserError where a worker raised one."""
    before, threading.excepthook = threading.excepthook, _report
    try:
        with beam.Pipeline(options=options) as job:
            yield job
    except (UserError, RuntimeError, ValueError) as error:
        if "Pipeline has validations errors" in str(error):
            raise UserError(f"Beam: {' '.join(str(error).split())}") from None
        # Beam adds words to the error of a worker, and the errors of other processes come as text.
        if message := _WORKERS_ERROR.search(f"{type(error).__name__}: {error}"):
            raise UserError(message[1]) from None
        raise
    finally:
        threading.excepthook = before


def _report(arguments: threading.ExceptHookArgs) -> None:
    """Beam's threads that listen to a worker end with an error when it is gone, which is said elsewhere."""
    if not issubclass(arguments.exc_type, grpc.RpcError):
        threading.__excepthook__(arguments)
