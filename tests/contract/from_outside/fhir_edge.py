"""The network's edge: the FHIR server that the package ships, and a gate before it that a test may close."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from contract.from_outside.clinic import clean_environment

#: Nothing waits at a closed gate for longer, whatever a test forgets to open.
HELD_SECONDS = 60.0

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class FhirGate:
    """Passes requests on to a FHIR server, or holds them, or answers that the server is down; counts them."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._open = threading.Event()
        self._open.set()
        self._answers: int | None = None
        self.arrived = 0
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing on the test's standard error."""

            def do_GET(self) -> None:
                gate._pass(self)

            do_POST = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/fhir"

    def close(self) -> None:
        """Let everything go and stop listening."""
        self._open.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile the server answers nothing; what waits goes on afterwards."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    @contextmanager
    def down(self, status: int = 503) -> Iterator[None]:
        """Meanwhile the server answers every request with this status."""
        self._answers = status
        try:
            yield
        finally:
            self._answers = None

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.arrived += 1
        self._open.wait(HELD_SECONDS)
        status, headers, content = self._answers, [("Content-Type", "application/fhir+json")], b"{}"
        if status is None:
            behind = HTTPConnection("127.0.0.1", self._behind, timeout=30)
            passed = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
            behind.request(request.command, request.path, body or None, passed)
            answer = behind.getresponse()
            status, content = answer.status, answer.read()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
            behind.close()
        # Whoever asked may have been killed by the test meanwhile.
        with suppress(OSError):
            request.send_response(status)
            for name, value in headers:
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)


@contextmanager
def fhir_behind_gate() -> Iterator[FhirGate]:
    """The README's ``python -m document_service.synthetic`` on a free port, and a gate before it."""
    server = subprocess.Popen(
        [sys.executable, "-m", "document_service.synthetic", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert server.stdout is not None
    port = int(server.stdout.readline().rsplit(":", 1)[1].split("/")[0])
    gate = FhirGate(port)
    try:
        yield gate
    finally:
        gate.close()
        server.terminate()
        server.wait(20)
        server.stdout.close()
