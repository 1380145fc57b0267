"""JSON answers travel compressed to callers that take gzip: a page of jobs is a sixth of its size (64 kbit/s links).

Only whole JSON bodies without a validator are touched. A strong ETag names one sequence of bytes (RFC 9110 section
8.8.1), and documents are compressed inside already and are asked for by ranges.
"""

from __future__ import annotations

import gzip

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Below this the headers that compression needs cost what it saves.
SMALLEST_BYTES = 512

#: Measured on a batch's answer of 26 KB: level 4 gives 3.9 KB in 0.5 ms, level 9 gives 3.7 KB in 1.5 ms.
LEVEL = 4


class Compression:
    """The ASGI layer between the envelope and the application."""

    def __init__(self, app: ASGIApp) -> None:
        """``app`` is the application itself."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on; its answer is held back until its body is seen."""
        if scope["type"] != "http" or not _takes_gzip(Headers(scope=scope).get("accept-encoding", "")):
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_json(message):
                start = message
                return
            if start is not None and message["type"] == "http.response.body":
                whole = not message.get("more_body", False) and len(message.get("body", b"")) >= SMALLEST_BYTES
                if whole:
                    _compress(start, message)
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, send_compressed)


def _takes_gzip(accepted: str) -> bool:
    for entry in accepted.lower().split(","):
        coding, _, weight = entry.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _is_json(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    kind = headers.get("content-type", "")
    return "json" in kind and "etag" not in headers and "content-encoding" not in headers


def _compress(start: Message, body: Message) -> None:
    # No time stamp: the same answer has the same bytes.
    body["body"] = gzip.compress(body["body"], LEVEL, mtime=0)
    headers = MutableHeaders(raw=start["headers"])
    headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(body["body"]))
    headers.add_vary_header("Accept-Encoding")
    start["headers"] = headers.raw
