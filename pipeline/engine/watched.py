"""What Beam's local runner lacks of its workers: an answer in the place of a worker that gives none any more."""

import threading
from abc import abstractmethod
from typing import Any

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler

_SECONDS = 0.5


class WatchedHandler(GrpcWorkerHandler):
    """The runner's side of one worker. Beam's own waits for ever for the answer of a worker that is gone.

    Errors are text that begins with the name of their class, like other errors of workers (`pipeline.engine.job`).
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.closing = threading.Event()
        self._is_lost = False

    def watch(self) -> None:
        """Starts to watch the worker, and answers for it from the moment on when something is wrong with it."""
        threading.Thread(target=self._watch, daemon=True).start()

    @abstractmethod
    def fault(self) -> str | None:
        """What is wrong with the worker, if anything is. Asked every half second."""

    @property
    def has_open_requests(self) -> bool:
        """Whether the worker has not answered everything."""
        return any(not future.is_done() for future in self._futures())

    def close(self) -> None:
        """Ends the connections to the worker, without waiting for one that is lost."""
        self.closing.set()
        if self._is_lost:
            # Threads that wait for its words end with the runner's server, which the manager closes next.
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
                # It stays in the list, because the worker's answer may come after all.
                future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=future.instruction_id, error=error))
