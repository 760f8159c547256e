"""A bucket to test with: the Cloud Storage emulator, behind a proxy that injects faults."""

import asyncio
import json
import re
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import quote

import fsspec
import pytest
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

BUCKET = "bucket"
# The faults of requests: "refuse" answers 503, "close" drops the request; the others carry it out, but answer 503 ("forget"),
# send half of the answer ("cut"), or send nothing for longer than a client should wait ("hang"). Tests may also use
# "shorten": it sends half of the requested bytes as if there were no more.
FAULTS = ("refuse", "close", "forget", "cut", "hang")
HANG_SECONDS = 30
_IN_A_ROW = 2


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on to the emulator and makes `server.share` of them fail.

    Which ones depends on the request and on how often it was made before, not on chance or on the order of threads. No
    request fails more than `_IN_A_ROW` times in a row.
    """

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # Removes the emulator's random id.
        path = re.sub(r"upload_id=[^&]+", "upload_id", self.path)
        part = self.headers.get("Range") or self.headers.get("Content-Range")
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        fault = self.server.fault(self.command, f"{path} {_name(body)} {part}")
        if fault == "refuse":
            self._answer(503, {}, b"")
        if fault in ("refuse", "close"):
            return
        status, headers, content = self._ask(body)
        if fault == "hang":
            self.server.stopping.wait(HANG_SECONDS)
        elif fault == "forget":
            self._answer(503, {}, b"")
        else:
            if fault == "shorten" and status == 206:
                content = content[: len(content) // 2]
            self._answer(status, headers, content, len(content) // (2 if fault == "cut" else 1))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Returns the emulator's answer."""
        # The emulator ignores this precondition, which `mode="create"` of gcsfs relies on.
        if "ifGenerationMatch=0" not in self.path:
            return self._send(self.command, self.path, body)
        name = quote(_name(body), safe="")
        with self.server.creating:
            status, *_ = self._send("GET", f"/storage/v1/b/{BUCKET}/o/{name}", b"")
            return (412, {}, b"") if status == 200 else self._send(self.command, self.path, body)

    def _send(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        with closing(HTTPConnection(*self.server.emulator)) as connection:
            connection.request(method, path, body, dict(self.headers) | {"Content-Length": str(len(body))})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()

    def _answer(self, status: int, headers: dict[str, str], content: bytes, sent: int = 0) -> None:
        self.send_response_only(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:sent])

    def log_message(self, *_):
        """Logs nothing."""


def _name(body: bytes) -> str | None:
    """Returns the name of the object that gcsfs writes in a single request with this body."""
    return json.loads(body.split(b"\n")[3])["name"] if body.startswith(b"--==0==") else None


class FaultyServer(ThreadingHTTPServer):
    """Listens for `Proxy`.

    Attributes:
      faults: the requests that failed, counted by method and kind.
      requests: (method, path, Range header) of every request, failed or not.
    """

    daemon_threads = True

    def __init__(self, emulator: tuple[str, int]):
        super().__init__(("127.0.0.1", 0), Proxy)
        self.emulator = emulator
        self.share = 0.0
        self.stopping = threading.Event()
        self.creating = threading.Lock()
        self.faults = Counter()
        self.requests: list[tuple[str, str, str | None]] = []
        self._asked, self._in_a_row = Counter(), Counter()
        self._lock = threading.Lock()

    @contextmanager
    def trouble(self, share: float) -> Iterator[None]:
        """Makes `share` of the requests fail while the `with` body runs; clears the records first."""
        for record in (self.faults, self.requests, self._asked, self._in_a_row):
            record.clear()
        self.share = share
        try:
            yield
        finally:
            self.share = 0.0

    def fault(self, method: str, what: str) -> str | None:
        """Returns the fault for this request; None to let it pass."""
        with self._lock:
            self._asked[method, what] += 1
            draw = zlib.crc32(f"{method} {what} {self._asked[method, what]}".encode())
            if draw % 1000 >= 1000 * self.share or self._in_a_row[method, what] == _IN_A_ROW:
                self._in_a_row[method, what] = 0
                return None
            self._in_a_row[method, what] += 1
            # Unlike Google, the emulator forgets a multipart upload after its last part, so that part must not come twice.
            kinds = FAULTS[:2] if "upload_id" in what else FAULTS
            kind = kinds[draw // 1000 % len(kinds)]
            self.faults[method, kind] += 1
            return kind

    def handle_error(self, *_):
        """Ignores clients that have disconnected."""


@contextmanager
def bucket() -> Iterator[FaultyServer]:
    """Serves gs://bucket from an in-memory emulator, for gcsfs and Google's own client, in this process and its children."""
    storage = Storage(use_memory_fs=True)
    create_bucket(BUCKET, storage)
    emulator = HTTPServer(("127.0.0.1", 0), lambda *arguments: RequestHandler(storage, *arguments))
    proxy = FaultyServer(emulator.server_address)
    for server in (emulator, proxy):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{proxy.server_port}")
        patch.setattr("schemas.storage.SILENCE_SECONDS", 1.0)
        # Otherwise gcsfs asks Google, not the emulator, for the bucket's type, and waits a minute for the answer.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        patch.setenv("FSSPEC_GS_TOKEN", "anon")
        patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        # gcsfs waits whole seconds between retries.
        patch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=lambda seconds: asyncio.sleep(seconds / 20)))
        try:
            yield proxy
        finally:
            proxy.stopping.set()
            for server in (emulator, proxy):
                server.shutdown()
                server.server_close()
            fsspec.get_filesystem_class("gs").clear_instance_cache()
