"""What Beam's local runner lacks: an answer in place of a worker that no longer answers."""

import threading
from abc import abstractmethod
from typing import Any

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler

_SECONDS = 0.5


class WatchedHandler(GrpcWorkerHandler):
    """The runner's side of one worker. Beam's own handler waits forever for the answer of a lost worker.

    Errors are text that begins with the name of their class, like other errors of workers (`pipeline.engine.job`).
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.closing = threading.Event()
        self._is_lost = False

    def watch(self) -> None:
        """Starts to watch the worker, and answers in its place once something is wrong with it."""
        threading.Thread(target=self._watch, daemon=True).start()

    @abstractmethod
    def fault(self) -> str | None:
        """Says what is wrong with the worker, if anything. Called every half second."""

    @property
    def has_open_requests(self) -> bool:
        """Whether the worker has unanswered requests."""
        return any(not future.is_done() for future in self._futures())

    def close(self) -> None:
        """Ends the connections to the worker, without waiting for a lost worker."""
        self.closing.set()
        if self._is_lost:
            # Threads that wait for the worker's messages end with the runner's server, which the manager closes next.
            self.control_conn.push(self.control_handler._DONE_MARKER)
            self.stop_worker()
        else:
            super().close()

    def _futures(self) -> list:
        return list(self.control_conn._futures_by_id.values())

    def _watch(self) -> None:
        fault = None
        while not self.closing.wait(_SECONDS):
            fault = fault or self.fault()
            if fault:
                self._is_lost = True
                self._answer(fault)

    def _answer(self, error: str) -> None:
        """Answers all open requests to the worker with `error`."""
        for future in self._futures():
            if not future.is_done():
                # The future stays in the list, because the worker's answer may still arrive.
                future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=future.instruction_id, error=error))
