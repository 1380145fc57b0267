"""Stands between the service and a real clamd, passes on what clamd says, and spoils a scan as a test wishes."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from clamav import RunningClamd

How = Literal["pass", "garbage", "endless", "clean-in-other-words", "kill", "silent"]

#: What is answered to a scan that was spoiled; none of it is an answer of clamd.
_WORDS: dict[str, bytes] = {
    "garbage": b"HTTP/1.1 200 OK\r\n\r\n<html>OK</html>\x00",
    "endless": b"stream: OK" * 20_000,
    "clean-in-other-words": b"stream: ok\x00",
}


class ClamdBetween:
    """A clamd by TCP whose scans may be spoiled; ``address`` is for DOCUMENT_SERVICE_CLAMD."""

    def __init__(self) -> None:
        self.real: RunningClamd | None = None
        self.how: How = "pass"
        self.scans = 0
        outer = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    outer._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        self.address = f"tcp:127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, client: socket.socket) -> None:
        if self.real is None:
            return
        first = client.recv(10, socket.MSG_WAITALL) if client.recv(10, socket.MSG_PEEK).startswith(b"zI") else None
        with socket.socket(socket.AF_UNIX) as real:
            real.connect(self.real.address.removeprefix("unix:"))
            if first is None:
                _relay(client, real)
                return
            self.scans += 1
            self._spoil(client, real, first)

    def _spoil(self, client: socket.socket, real: socket.socket, first: bytes) -> None:
        how = self.how
        real.sendall(first)
        if how == "pass":
            _relay(client, real)
            return
        if how == "kill":
            assert self.real is not None
            real.sendall(client.recv(100))
            self.real.process.kill()
            self.real.process.wait()
            _relay(client, real)
            return
        _drain_stream(client)
        if how == "silent":
            client.recv(1)  # Until whoever asks hangs up, or is killed.
            return
        client.sendall(_WORDS[how])


def _drain_stream(client: socket.socket) -> None:
    while size := int.from_bytes(client.recv(4, socket.MSG_WAITALL), "big"):
        while size:
            size -= len(client.recv(min(size, 65536)))


def _relay(client: socket.socket, real: socket.socket) -> None:
    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    forth = threading.Thread(target=copy, args=(client, real), daemon=True)
    forth.start()
    copy(real, client)
    forth.join(5)


@contextmanager
def clamd_between() -> Iterator[ClamdBetween]:
    between = ClamdBetween()
    try:
        yield between
    finally:
        between.close()
