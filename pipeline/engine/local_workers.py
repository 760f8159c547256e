"""Worker processes of Beam's local runner (`--direct_running_mode=multi_processing`), watched.

Beam's handler waits forever for the answer of a killed worker, and after an error, for the other workers. This one ends
the run with a one-line error, and no worker outlives the run, however it ends.
"""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler, WorkerHandler
from google.protobuf import json_format, text_format

from pipeline.engine.watched import WatchedHandler

# On each process's command line, because people look for it there.
_WORKER = "apache_beam.runners.worker.sdk_worker_main"


@WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
class ProcessWorkerHandler(WatchedHandler, SubprocessSdkWorkerHandler):
    """Starts one worker process, and answers in its place when it dies."""

    def start_worker(self) -> None:
        """Starts the process in a new session, so that Ctrl-C in a terminal reaches only the launcher."""
        environment = {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.control_api_service_descriptor()),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.logging_api_service_descriptor()),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
            "WORKER_ID": self.worker_id,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.engine.local_workers", _WORKER],
            stdin=subprocess.PIPE,
            env=os.environ | environment,
            start_new_session=True,
        )
        self.watch()

    def fault(self) -> str | None:
        """Says how the process ended, if it did."""
        code = self._process.poll()
        return None if code is None else _describe(code)

    def close(self) -> None:
        """Ends the process: at once if it has unanswered requests, as after an error elsewhere."""
        self.closing.set()
        if self.has_open_requests:
            self._process.kill()
        super().close()

    def stop_worker(self) -> None:
        """Kills the process: it has nothing more to do, but would take seconds to exit."""
        self._process.kill()
        self._process.wait()


def _describe(code: int) -> str:
    if code >= 0:
        return f"UserError: a worker process ended (exit code {code}); its output above says why"
    return (
        f"UserError: a worker process died ({signal.Signals(-code).name}), probably because memory ran out; lower "
        "--direct_num_workers, batch_tokens, shard_bytes or teachers_in_memory, then run the same command again to go on"
    )


def _work() -> None:
    """Runs a worker process. It ends when the process that started it ends, which closes the pipe."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    def report(arguments: threading.ExceptHookArgs) -> None:
        # When the launcher ends, the connections break a moment before the pipe. Then there is nothing to report.
        time.sleep(1.0)
        threading.__excepthook__(arguments)

    threading.excepthook = report
    threading.Thread(target=wait, daemon=True).start()
    importlib.import_module(_WORKER).main(sys.argv)


if __name__ == "__main__":
    _work()
