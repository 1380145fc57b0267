"""One connection through the fault proxy: two readers, two writers, and a queue between each pair.

    client ─read─► split, answer here or forward ─queue─► travel ─► upstream
    client ◄─ travel ◄─queue─ alter, cut ◄─split◄─read─ upstream

A queue item is a step of the sending side; the fault happens when its turn comes, after the bytes before it have
crossed the link. The upstream is connected to when the first bytes are forwarded.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import re
import socket
import struct
import termios
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal

from document_service.fault_proxy.framing import Body, End, Head, MessageSplitter, Part
from document_service.fault_proxy.weather import Direction, Weather

_READ_BYTES: Final = 64 * 1024
# Enough pieces for a fast long link; beyond them the sender is held back as TCP would.
_QUEUED_PIECES: Final = 256
# How long a reset waits for the bytes before it to leave the kernel; loopback needs microseconds.
_FLUSH_SECONDS: Final = 1.0
_CONTENT_RANGE: Final = re.compile(rb"(\r\ncontent-range:\s*bytes\s+)(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Step:
    """What a writer does next with ``data``: send it, drop it after it has travelled, answer, or end."""

    kind: Literal["send", "drop", "answer", "end", "reset"]
    data: bytes = b""
    arrived: float = 0.0


class Connection:
    """A client's connection; ``run`` lasts until either side or a fault ends it."""

    def __init__(
        self,
        weather: Weather,
        upstream: tuple[str, int],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Take over the accepted streams; ``upstream`` is connected to when it is needed."""
        self._weather = weather
        self._address = upstream
        self._client_reader, self._client = reader, writer
        self._upstream: asyncio.StreamWriter | None = None
        self._up: asyncio.Queue[_Step] = asyncio.Queue(_QUEUED_PIECES)
        self._down: asyncio.Queue[_Step] = asyncio.Queue(_QUEUED_PIECES)
        self._methods: deque[str] = deque()
        self._targets: deque[str] = deque()
        self._over = asyncio.Event()
        self._by_reset = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Carry bytes until the connection is over, then close both sides."""
        # A write buffer of nothing: `drain` then means that the kernel has the bytes.
        self._client.transport.set_write_buffer_limits(high=0)
        for work in (self._read_client(), self._send_up(), self._send_down()):
            self._begin(work)
        try:
            await self._over.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await self._close()

    def reset(self) -> None:
        """End the connection at once, as a network that goes away with a reset does."""
        self._finish(by_reset=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except OSError:
                # Either side went away; the other one sees a reset, as it would without the proxy.
                self._finish(by_reset=True)

        self._tasks.add(asyncio.create_task(guarded()))

    def _finish(self, *, by_reset: bool) -> None:
        self._by_reset = self._by_reset or by_reset
        self._over.set()

    async def _put(self, direction: Direction, kind: Literal["send", "drop"], data: bytes) -> None:
        queue = self._up if direction == "up" else self._down
        arrived = asyncio.get_running_loop().time()
        size = self._weather.piece_bytes(direction)
        for start in range(0, len(data), size):
            await queue.put(_Step(kind, data[start : start + size], arrived))

    # --- client to upstream -----------------------------------------------------------------------------------

    async def _read_client(self) -> None:
        splitter = MessageSplitter("request")
        seen = 0
        answer: bytes | None = None
        while data := await self._client_reader.read(_READ_BYTES):
            self._weather.count(bytes_up=len(data))
            limit = self._weather.faults.reset_after_up
            reset = limit is not None and seen + len(data) > limit and self._weather.may_cut()
            if reset and limit is not None:
                data = data[: max(0, limit - seen)]
            seen += len(data)
            for part in splitter.feed(data):
                if isinstance(part, Head):
                    answer = self._weather.answer_to(part.method, part.target)
                    if answer is None:
                        self._methods.append(part.method)
                        self._targets.append(part.target)
                if isinstance(part, End):
                    if answer is not None:
                        await self._up.put(_Step("answer", answer))
                else:
                    await self._put("up", "send" if answer is None else "drop", part.raw)
            if reset:
                self._weather.spend_cut()
                await self._up.put(_Step("reset"))
                return
        await self._up.put(_Step("end"))

    async def _send_up(self) -> None:
        first = True
        while True:
            step = await self._up.get()
            if step.kind in ("send", "drop"):
                await self._weather.travel("up", len(step.data), step.arrived, handshake=first)
                first = False
            if step.kind == "send":
                upstream = await self._connected()
                upstream.write(step.data)
                await upstream.drain()
            elif step.kind == "answer":
                await self._put("down", "send", step.data)
            elif step.kind == "reset":
                self._finish(by_reset=True)
                return
            elif step.kind == "end":
                if self._upstream is None:
                    await self._down.put(_Step("end"))
                else:
                    self._upstream.write_eof()
                return

    async def _connected(self) -> asyncio.StreamWriter:
        if self._upstream is None:
            reader, self._upstream = await asyncio.open_connection(*self._address)
            self._begin(self._read_upstream(reader))
        return self._upstream

    # --- upstream to client -----------------------------------------------------------------------------------

    async def _read_upstream(self, reader: asyncio.StreamReader) -> None:
        splitter = MessageSplitter("response", self._methods)
        target = ""
        body = 0
        while data := await reader.read(_READ_BYTES):
            for part in splitter.feed(data):
                if isinstance(part, End):
                    continue
                raw = part.raw
                if isinstance(part, Head):
                    body = 0
                    if part.status >= 200:
                        target = self._targets.popleft() if self._targets else ""
                    raw = self._shifted(part, target)
                elif isinstance(part, Body):
                    cut_at = self._cut_at(part, target, body)
                    if cut_at is not None:
                        await self._put("down", "send", raw[:cut_at])
                        await self._down.put(_Step("end"))
                        return
                    body += len(raw)
                await self._put("down", "send", raw)
        await self._down.put(_Step("end"))

    def _shifted(self, head: Head, target: str) -> bytes:
        faults = self._weather.faults
        if not faults.shift_content_range or head.status != 206 or faults.path not in target:
            return head.raw
        return _CONTENT_RANGE.sub(
            lambda found: found[1] + str(max(0, int(found[2]) + faults.shift_content_range)).encode(), head.raw, 1
        )

    def _cut_at(self, part: Part, target: str, body: int) -> int | None:
        """Where in this piece of a body (after ``body`` bytes of it) the connection is cut; None = not here."""
        faults = self._weather.faults
        if faults.cut_body_after is None or faults.path not in target or not isinstance(part, Body):
            return None
        if body + len(part.raw) <= faults.cut_body_after or not self._weather.may_cut():
            return None
        self._weather.spend_cut()
        return max(0, faults.cut_body_after - body)

    async def _send_down(self) -> None:
        sent = 0
        while True:
            step = await self._down.get()
            if step.kind == "end":
                self._finish(by_reset=False)
                return
            await self._weather.travel("down", len(step.data), step.arrived)
            limit = self._weather.faults.reset_after_down
            reset = limit is not None and sent + len(step.data) > limit and self._weather.may_cut()
            data = step.data[: max(0, limit - sent)] if reset and limit is not None else step.data
            self._client.write(data)
            await self._client.drain()
            sent += len(data)
            self._weather.count(bytes_down=len(data))
            if reset:
                self._weather.spend_cut()
                self._finish(by_reset=True)
                return

    # --- the end ----------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        if self._by_reset:
            await _flushed(self._client)
            sock: socket.socket | None = self._client.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                # Lingering for zero seconds makes close send RST instead of FIN.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._client.transport.abort()
        else:
            self._client.close()
        if self._upstream is not None:
            self._upstream.close()


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Wait until the peer's kernel has every byte written: a reset throws away what is still in ours."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _FLUSH_SECONDS
    waiting = array.array("i", [1])
    while sock is not None and sock.fileno() >= 0 and waiting[0] and loop.time() < give_up:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, waiting)
        if waiting[0]:
            await asyncio.sleep(0.001)
