"""The model on the wire: under httpx2 in the same process, or on a loopback port for other processes.

Faults are put in at this edge: a ``Fault`` in ``ModelTransport.faults`` spoils the next exchanges that it names.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from cryptography.hazmat.primitives import serialization

from ..clock import to_text
from ..policy import decode
from .batch import submit_batch
from .rules import JOBS, Model
from .wire import Caller, ModelAnswer, base64url, problem, unless_known


def answer(model: Model, method: str, target: str, headers: dict[str, str], body: bytes) -> ModelAnswer:
    """Return the model's answer to one exchange; header names are in lower case."""
    parts = urlsplit(target)
    path, query = parts.path, parse_qs(parts.query)
    if path == "/.well-known/document-service":
        return _stamped(model, describe(model))
    if path == "/.well-known/oauth-protected-resource":
        # Its tokens are made by the test: there is nowhere to sign in.
        return _stamped(model, ModelAnswer(200, {"resource": "https://documents.test", "device_sign_in": None}))
    if re.fullmatch(r"/v1/documents/[^/]+/content", path):
        return _stamped(model, model.content(path.split("/")[3], headers))
    caller = _caller(model, headers.get("authorization", ""))
    if caller is None:
        return _stamped(model, problem(401, "NOT_AUTHENTICATED"))
    try:
        parsed = json.loads(body) if body else None
    except ValueError:
        return _stamped(model, problem(400, "MALFORMED_JSON"))
    return _stamped(model, _route(model, caller, method, path, query, headers, parsed))


def describe(model: Model) -> ModelAnswer:
    """Answer ``GET /.well-known/document-service``."""
    raw = model.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    keys = [{"kid": "model-1", "publicKey": base64url(raw)}]
    described = {"service": "document-service", "version": "model", "issuer": None, "policyKeys": keys}
    return ModelAnswer(200, {**described, "time": to_text(model.now())})


def _route(
    model: Model,
    caller: Caller,
    method: str,
    path: str,
    query: dict[str, list[str]],
    headers: dict[str, str],
    body: Any,
) -> ModelAnswer:
    if (method, path) == ("POST", JOBS):
        return model.submit(caller, body, headers.get("x-client-mutation-id") or headers.get("idempotency-key"))
    if (method, path) == ("POST", f"{JOBS}/batch"):
        return submit_batch(model, caller, body)
    if (method, path) == ("GET", JOBS):
        return model.list_jobs(caller)
    if (method, path) == ("POST", f"{JOBS}/lookup"):
        return model.lookup(caller, body)
    if (method, path) == ("GET", "/v1/documents/changes"):
        cursor = query.get("cursor", [""])[0]
        return unless_known(model.changes(caller, cursor), cursor, query.get("policy", [None])[0])
    if (method, path) == ("POST", "/v1/documents/audit-events"):
        return model.take_events(body)
    if (method, path) == ("GET", "/v1/document-templates"):
        listed = model.list_templates(caller)
        if headers.get("if-none-match") == listed.headers["ETag"]:
            return ModelAnswer(304, None, listed.headers, b"")
        return listed
    found = re.fullmatch(rf"{JOBS}/([^/]+)(/retry)?", path)
    if found:
        return model.retry(caller, found[1]) if found[2] else model.read_job(caller, found[1])
    found = re.fullmatch(r"/v1/documents/([^/]+)/download-url", path)
    if found and method == "POST":
        return model.document_url(caller, found[1])
    found = re.fullmatch(r"/v1/document-templates/[^/]+/versions/([^/]+)", path)
    if found:
        return model.read_version(caller, found[1])
    return problem(404, "NOT_FOUND")


def _caller(model: Model, authorization: str) -> Caller | None:
    token = authorization.removeprefix("Bearer ")
    if token in model.revoked_tokens:
        return None
    try:
        claims = json.loads(decode(token.split(".")[1]))
        facilities = claims.get("facilities")
        return Caller(claims["tenant"], claims["sub"], None if facilities is None else frozenset(facilities))
    except (IndexError, ValueError, KeyError):
        return None


def _stamped(model: Model, given: ModelAnswer) -> ModelAnswer:
    given.headers.setdefault("Content-Type", "application/json")
    given.headers["X-Sync-Epoch"] = model.state.epoch
    given.headers["X-Request-Id"] = "req_model"
    given.headers["Date"] = formatdate(model.now(), usegmt=True)
    if given.content is None:
        given.content = json.dumps(given.body).encode()
    return given


@dataclass
class Fault:
    """Something that goes wrong with the next ``times`` exchanges whose method and path contain ``where``.

    ``act`` returns the answer that is given instead, or raises a transport error. ``late``: only after the model has
    done its work, so that the work is done and its answer lost.
    """

    where: str
    act: Callable[[httpx2.Request], httpx2.Response | None]
    times: int = 1
    late: bool = False


@dataclass
class ModelTransport(httpx2.BaseTransport):
    """The model as a transport of httpx2, with faults; ``seen`` lists the exchanges as "METHOD path?query"."""

    model: Model
    faults: list[Fault] = field(default_factory=list)
    offline: bool = False
    seen: list[str] = field(default_factory=list)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one exchange."""
        if self.offline:
            raise httpx2.ConnectError("offline", request=request)
        target = request.url.raw_path.decode()
        name = f"{request.method} {target}"
        self.seen.append(name)
        instead = self._fault(name, request, late=False)
        if instead is not None:
            return instead
        headers = {header.lower(): value for header, value in request.headers.items()}
        given = answer(self.model, request.method, target, headers, request.read())
        instead = self._fault(name, request, late=True)
        if instead is not None:
            return instead
        return httpx2.Response(given.status, headers=given.headers, content=given.content)

    def _fault(self, name: str, request: httpx2.Request, *, late: bool) -> httpx2.Response | None:
        for fault in self.faults:
            if fault.times > 0 and fault.late is late and fault.where in name:
                fault.times -= 1
                return fault.act(request)
        return None


@contextmanager
def serve(
    model: Model, *, port: int = 0, watch: Callable[[str, bool], None] = lambda name, done: None
) -> Iterator[str]:
    """Serve the model on a loopback port in threads of this process; yields its URL.

    ``watch`` is told "METHOD path" of every exchange twice: when it has arrived, and when the model has done its work
    but nothing was answered yet (``done``). It may end the process that asks, to test what a crash leaves.
    """
    lock = threading.Lock()

    class Exchange(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body leave in two writes; without this, each answer waits for an acknowledgement.
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            name = f"{self.command} {self.path}"
            with lock:
                watch(name, False)
                given = answer(model, self.command, self.path, headers, body)
                watch(name, True)
            content = given.content or b""
            with contextlib.suppress(ConnectionError):
                # Whoever asked may be gone by now.
                self._write(given, content)

        def _write(self, given: ModelAnswer, content: bytes) -> None:
            self.send_response_only(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            if given.status != 304:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if given.status != 304 and self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_HEAD = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Listener(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            # A client that was killed resets its connection; there is nobody to tell.
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    server = Listener(("127.0.0.1", port), Exchange)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
