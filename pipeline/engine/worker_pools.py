"""Watched workers of an external pool (`--environment_type=EXTERNAL`).

One that dies or stops answering ends the run with a one-line error.
"""

import time

import grpc
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_fn_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    ControlFuture,
    ExternalWorkerHandler,
    WorkerHandler,
)

from pipeline.engine.watched import WatchedHandler
from schemas.errors import UserError

# Longer than a busy worker takes to answer a request that has its own thread.
SILENCE_SECONDS = 120.0
_GO_ON = "finished work is kept; run the same command again to go on, with this pool or another one"


@WorkerHandler.register_environment(common_urns.environments.EXTERNAL.urn, beam_runner_api_pb2.ExternalPayload)
class PoolWorkerHandler(WatchedHandler, ExternalWorkerHandler):
    """Asks a pool for one worker, and answers in its place when its connection ends or it stops answering."""

    def start_worker(self) -> None:
        """Asks the pool for the worker. Raises UserError if no pool answers."""
        try:
            super().start_worker()
        except grpc.RpcError as error:
            raise UserError(
                f"--environment_config: no worker pool answers at {self._url} ({error.details()}); start one there"
            ) from None
        self._ask()
        self.watch()

    def fault(self) -> str | None:
        """Says whether the worker's connection has ended, or its answer is long overdue."""
        connection = self.control_conn
        if connection._state == BeamFnControlServicer.STARTED_STATE and not connection._read_thread.is_alive():
            return f"UserError: a worker of the pool at {self._url} died or lost its connection; {_GO_ON}"
        if self._question.is_done():
            self._ask()
        if time.monotonic() - self._asked > SILENCE_SECONDS:
            return (
                f"UserError: a worker of the pool at {self._url} has not answered for {SILENCE_SECONDS:.0f} s "
                f"(frozen, cut off, or never started; the pool's own output may say why); {_GO_ON}"
            )
        return None

    def _ask(self) -> None:
        """Sends a request that every worker answers at once, whatever it is doing."""
        self._asked = time.monotonic()
        question = beam_fn_api_pb2.InstructionRequest(
            harness_monitoring_infos=beam_fn_api_pb2.HarnessMonitoringInfosRequest()
        )
        # Beam's messages are untyped, so mypy picks the first overload, which returns None.
        self._question: ControlFuture = self.control_conn.push(question)  # type: ignore[assignment]

    @property
    def _url(self) -> str:
        return self._external_payload.endpoint.url
