"""Where HTTP/1.1 messages begin and end in a stream of bytes, without changing a byte (RFC 9112 section 6).

Only the fault proxy uses it: it must count round trips and change one message while every other passes as it came.
It is no validator: a stream that is not HTTP comes out as ``Opaque`` from there on.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

# More than any head of ours; a longer one is not HTTP or not worth reading.
_MAX_HEAD_BYTES: Final = 64 * 1024
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{3,12}) (\S+) HTTP/1\.[01]\r?$")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
# Bytes that a request could begin with; anything else is another protocol and is passed at once.
_METHOD_START: Final = re.compile(rb"[A-Z]{1,12}( |$)")


@dataclass(frozen=True, slots=True)
class Head:
    """A whole head with its empty line; ``method`` and ``target`` of a request, or ``status`` of a response."""

    raw: bytes
    method: str = ""
    target: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes of a body as they came, chunk framing included."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The message is over."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """Bytes of something that is not HTTP/1.1, or of a connection that was upgraded."""

    raw: bytes


Part = Head | Body | End | Opaque
_State = Literal["head", "length", "chunk-line", "chunk", "trailer", "until-close", "opaque"]


class MessageSplitter:
    """Splits one direction of a connection; ``feed`` bytes as they arrive and handle the parts that come out."""

    def __init__(self, kind: Literal["request", "response"], methods: deque[str] | None = None) -> None:
        """For responses ``methods`` holds the methods of the requests in flight: HEAD has no body."""
        self._kind = kind
        self._methods: deque[str] = methods if methods is not None else deque()
        self._state: _State = "head"
        self._buffer = b""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[Part]:
        """Yield the parts that ``data`` completes."""
        self._buffer += data
        while self._buffer:
            state, before = self._state, len(self._buffer)
            yield from getattr(self, "_in_" + state.replace("-", "_"))()
            if self._state == state and len(self._buffer) == before:
                return

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _in_opaque(self) -> Iterator[Part]:
        yield Opaque(self._take(len(self._buffer)))

    def _in_until_close(self) -> Iterator[Part]:
        yield Body(self._take(len(self._buffer)))

    def _in_head(self) -> Iterator[Part]:
        end = self._buffer.find(b"\r\n\r\n")
        could_be = (
            _METHOD_START.match(self._buffer[:13])
            if self._kind == "request"
            else b"HTTP/1.".startswith(self._buffer[:7])
        )
        if not could_be or (end < 0 and len(self._buffer) > _MAX_HEAD_BYTES):
            self._state = "opaque"
            return
        if end < 0:
            return
        raw = self._take(end + 4)
        line, _, _ = raw.partition(b"\r\n")
        found = (_REQUEST_LINE if self._kind == "request" else _STATUS_LINE).match(line)
        if found is None:
            self._state = "opaque"
            yield Opaque(raw)
        elif self._kind == "request":
            head = Head(raw, method=found[1].decode(), target=found[2].decode("latin-1"))
            yield from self._after_head(head, has_body=True)
        else:
            head = Head(raw, status=int(found[1]))
            if head.status == 101:
                self._state = "opaque"
                yield head
            elif head.status < 200:
                # An interim answer: the final one to the same request follows.
                yield head
            else:
                method = self._methods.popleft() if self._methods else ""
                yield from self._after_head(head, has_body=method != "HEAD" and head.status not in (204, 304))

    def _after_head(self, head: Head, *, has_body: bool) -> Iterator[Part]:
        yield head
        length = header(head.raw, "content-length")
        if has_body and (header(head.raw, "transfer-encoding") or "").lower().endswith("chunked"):
            self._state = "chunk-line"
        elif has_body and length is not None and length.isdigit() and int(length) > 0:
            self._left = int(length)
            self._state = "length"
        elif has_body and length is None and self._kind == "response":
            self._state = "until-close"
        else:
            yield End()

    def _in_length(self) -> Iterator[Part]:
        part = self._take(self._left)
        self._left -= len(part)
        yield Body(part)
        if self._left == 0:
            self._state = "head"
            yield End()

    def _in_chunk_line(self) -> Iterator[Part]:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return
        line = self._take(end + 2)
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            self._state = "opaque"
        else:
            # The chunk's own line end counts with it.
            self._left = size + 2
            self._state = "chunk" if size else "trailer"
        yield Body(line)

    def _in_chunk(self) -> Iterator[Part]:
        part = self._take(self._left)
        self._left -= len(part)
        if self._left == 0:
            self._state = "chunk-line"
        yield Body(part)

    def _in_trailer(self) -> Iterator[Part]:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return
        line = self._take(end + 2)
        yield Body(line)
        if line == b"\r\n":
            self._state = "head"
            yield End()


def header(head: bytes, name: str) -> str | None:
    """The first value of header ``name`` (lower case) in a raw head, or None."""
    for line in head.split(b"\r\n")[1:]:
        label, colon, value = line.partition(b":")
        if colon and label.strip().lower() == name.encode():
            return value.strip().decode("latin-1")
    return None
