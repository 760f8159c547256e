"""Workers of a pool elsewhere (`--environment_type=EXTERNAL`), watched: one that dies or falls silent ends the run with a line."""

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

# Longer than a busy worker takes to answer what a thread of its own answers.
SILENCE_SECONDS = 120.0
_GO_ON = "what is done is kept; run the same command again to go on, with this pool or another one"


@WorkerHandler.register_environment(common_urns.environments.EXTERNAL.urn, beam_runner_api_pb2.ExternalPayload)
class PoolWorkerHandler(WatchedHandler, ExternalWorkerHandler):
    """Asks a pool for one worker, and answers for it when its connection ends, or when it answers nothing any more."""

    def start_worker(self) -> None:
        """Asks the pool for the worker. UserError where there is no pool."""
        try:
            super().start_worker()
        except grpc.RpcError as error:
            raise UserError(
                f"--environment_config: no pool of workers answers at {self._url} ({error.details()}); start one there"
            ) from None
        self._ask()
        self.watch()

    def fault(self) -> str | None:
        """Whether the worker's connection has ended, or its last answer is long ago."""
        connection = self.control_conn
        if connection._state == BeamFnControlServicer.STARTED_STATE and not connection._read_thread.is_alive():
            return f"UserError: a worker of the pool at {self._url} died, or its connection did; {_GO_ON}"
        if self._question.is_done():
            self._ask()
        if time.monotonic() - self._asked > SILENCE_SECONDS:
            return (
                f"UserError: a worker of the pool at {self._url} has not answered for {SILENCE_SECONDS:.0f} s "
                f"(frozen, cut off, or never started; the pool's own output may say why); {_GO_ON}"
            )
        return None

    def _ask(self) -> None:
        """Asks for what every worker answers at once, whatever it works on."""
        self._asked = time.monotonic()
        question = beam_fn_api_pb2.InstructionRequest(
            harness_monitoring_infos=beam_fn_api_pb2.HarnessMonitoringInfosRequest()
        )
        # The first of Beam's overloads, which mypy takes for want of types of its messages, gives None.
        self._question: ControlFuture = self.control_conn.push(question)  # type: ignore[assignment]

    @property
    def _url(self) -> str:
        return self._external_payload.endpoint.url
