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
from schemas.errors import USERS_ERROR, UserError

_WORKERS_ERROR = re.compile(rf"{USERS_ERROR}(.+?)(?: \[while running .*|\n|$)")
_LONGEST = 500
_STATE = re.compile(r"State: (\w+)")


@contextmanager
def running(options: PipelineOptions) -> Iterator[beam.Pipeline]:
    """Yields a Beam pipeline, which runs when the body has built it.

    Raises UserError if a worker raised one, or a Dataflow job failed.
    """
    before, threading.excepthook = threading.excepthook, _report
    try:
        with beam.Pipeline(options=options) as job:
            yield job
    except Exception as error:
        if "Pipeline has validations errors" in str(error):
            raise UserError(f"Beam: {' '.join(str(error).split())}") from None
        # Beam adds text to a worker's error, and errors from other processes arrive as text.
        if message := _WORKERS_ERROR.search(f"{type(error).__name__}: {error}"):
            raise UserError(message[1]) from None
        # Compared by name, so that other runners do not import Dataflow's.
        if type(error).__name__ == "DataflowRuntimeException":
            raise UserError(_dataflow_fault(str(error))) from None
        raise
    finally:
        threading.excepthook = before


def _dataflow_fault(text: str) -> str:
    """Says in one line how a Dataflow job ended, with the last line of its error, if it has one."""
    state = _STATE.search(text)
    lines = text.partition("Error:\n")[2].split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip() not in ("", "None")), "")
    return (
        f"Dataflow: the job ended as {state[1] if state else 'failed'}{f' ({said[:_LONGEST]})' * bool(said)}; see its log in the "
        "Cloud Console, then run the same command again to go on"
    )


def _report(arguments: threading.ExceptHookArgs) -> None:
    """Hides the gRPC errors of Beam's threads that listen to a lost worker; the loss is reported elsewhere."""
    if not issubclass(arguments.exc_type, grpc.RpcError):
        threading.__excepthook__(arguments)
