"""The line between a device and the service: whole, cut, or in the hands of a portal that answers in its place."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal


class Line:
    """A port on which the service is reached, until a test cuts the line; ``url`` stays the same."""

    def __init__(self, service: str) -> None:
        self._service = ("127.0.0.1", int(service.rsplit(":", 1)[1]))
        #: What a portal answers to everything; None while the line is whole.
        self._portal: bytes | None = None
        self._cut = False
        self._loses_answers = False
        #: What devices said to the portal.
        self.heard = b""
        line = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    line._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Meanwhile every connection is closed before a word is said."""
        self._cut = True
        try:
            yield
        finally:
            self._cut = False

    @contextmanager
    def losing_answers(self) -> Iterator[None]:
        """Meanwhile the service hears everything and nobody hears the service."""
        self._loses_answers = True
        try:
            yield
        finally:
            self._loses_answers = False

    @contextmanager
    def portal(self, answer: bytes) -> Iterator[None]:
        """Meanwhile something else answers, the same to everything."""
        self._portal, self.heard = answer, b""
        try:
            yield
        finally:
            self._portal = None

    def _serve(self, client: socket.socket) -> None:
        if self._cut:
            return
        if self._portal is not None:
            self.heard += client.recv(1 << 20)
            client.sendall(self._portal)
            return
        with socket.create_connection(self._service) as service:
            back: Literal["pass", "drop"] = "drop" if self._loses_answers else "pass"
            forth = threading.Thread(target=_copy, args=(client, service, "pass"), daemon=True)
            forth.start()
            _copy(service, client, back)


def _copy(source: socket.socket, target: socket.socket, how: Literal["pass", "drop"]) -> None:
    """Copy until either end closes; what is dropped ends the connection at its first byte."""
    with suppress(OSError):
        while (piece := source.recv(65536)) and how == "pass":
            target.sendall(piece)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def answer(status: str, content_type: str, body: str, *headers: str) -> bytes:
    """An HTTP answer after which the connection ends."""
    head = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body.encode())}"]
    return "\r\n".join([*head, "Connection: close", *headers, "", body]).encode()
