"""HTTP/1.1 with the FHIR servers: connections that are kept, one exchange at a time on each.

A general client would follow, redirect, decompress, remember and log; an exchange here does none of it, and costs a
sixth of one there (docs/decisions/0067-an-http-client-of-our-own.md). The parser is the one that reads the API's own
requests.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import httptools

#: An idle connection is given up after this many seconds: servers and firewalls close theirs after five or more, and
#: a request that meets a closed one has to be sent again.
KEEP_SECONDS = 4.5

#: Idle connections kept in all; more than the jobs in hand of a small machine make.
KEEP_MOST = 20

#: Bytes of an answer that are no content, in a row: head, trailer, chunk lines. Servers send a few hundred.
HEAD_BYTES = 64 * 1024

#: A host of several addresses is tried at the next one when the first has not answered for so long (RFC 8305).
NEXT_ADDRESS_SECONDS = 0.25


class Broken(Exception):
    """The connection ended, could not be made, or carries something that is not HTTP."""


class _Unanswered(Broken):
    """The server closed the connection before the first byte of its answer."""


class TooMuch(Exception):
    """The caller takes no more content."""


class Place(NamedTuple):
    """Where a server listens; with ``encrypted`` its certificate must be for ``host``."""

    host: str
    port: int
    encrypted: bool


@dataclass(frozen=True, slots=True)
class Raw:
    """A whole answer: status, headers by lower-case name, content as it was sent."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connections:
    """The open connections of a process, shared between tenants: a connection carries nothing from one to the next."""

    def __init__(self, context: ssl.SSLContext, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Trust what ``context`` trusts; nothing is opened before the first exchange."""
        context.set_alpn_protocols(["http/1.1"])
        self._context = context
        self._monotonic = monotonic
        self._idle: list[tuple[Place, float, _Connection]] = []

    async def ask(
        self, place: Place, request: bytes, take: Callable[[int], bool], *, connect: float, silence: float
    ) -> Raw:
        """Send ``request``, a read that may safely be sent twice, and give the whole answer.

        ``take`` is told the length of each piece of content as it comes and says whether it is wanted. ``connect`` and
        ``silence`` are the seconds to wait for a connection and for the next bytes.

        Raises:
            TimeoutError: one of them passed.
            Broken: see there.
            TooMuch: ``take`` said no.
        """
        kept = self._take_idle(place)
        if kept is not None:
            try:
                return await self._ask_on(kept, place, request, take, silence)
            except _Unanswered:
                pass  # The server gave the connection up in the moment that we used it.
        async with asyncio.timeout(connect):
            fresh = await self._open(place)
        return await self._ask_on(fresh, place, request, take, silence)

    async def _ask_on(
        self, connection: _Connection, place: Place, request: bytes, take: Callable[[int], bool], silence: float
    ) -> Raw:
        try:
            answer = await connection.ask(request, take, silence)
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable and len(self._idle) < KEEP_MOST:
            self._idle.append((place, self._monotonic() + KEEP_SECONDS, connection))
        else:
            connection.close()
        return answer

    def _take_idle(self, place: Place) -> _Connection | None:
        """The idle connection that was used last; those that are over are let go."""
        now, kept, found = self._monotonic(), [], None
        for entry in reversed(self._idle):
            if entry[1] < now or not entry[2].is_reusable:
                entry[2].close()
            elif found is None and entry[0] == place:
                found = entry[2]
            else:
                kept.append(entry)
        self._idle = kept[::-1]
        return found

    async def _open(self, place: Place) -> _Connection:
        """Connect to the first of the host's addresses that takes it, a little later also to the next ones."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Broken("the host has no address") from None
        waiting = list(dict.fromkeys(entry[4][0] for entry in found))
        running: set[asyncio.Task[_Connection]] = set()
        won: _Connection | None = None
        try:
            while won is None and (waiting or running):
                if waiting:
                    running.add(asyncio.create_task(self._connect(str(waiting.pop(0)), place)))
                pause = NEXT_ADDRESS_SECONDS if waiting else None
                done, running = await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if won is not None:
                        _close_late(task)
                    elif not _failed(task):
                        won = task.result()
        finally:
            for task in running:
                task.cancel()
                task.add_done_callback(_close_late)
        if won is None:
            raise Broken("no connection could be made")
        return won

    async def _connect(self, address: str, place: Place) -> _Connection:
        loop = asyncio.get_running_loop()
        if place.encrypted:
            _, made = await loop.create_connection(
                _Connection, address, place.port, ssl=self._context, server_hostname=place.host
            )
        else:
            _, made = await loop.create_connection(_Connection, address, place.port)
        return made

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed by who waits for them."""
        while self._idle:
            self._idle.pop()[2].close()


def _failed(task: asyncio.Task[_Connection]) -> bool:
    """Whether an address refused, or its certificate is not the host's; another may be better."""
    error = task.exception()
    if error is not None and not isinstance(error, (OSError, UnicodeError)):
        raise error
    return error is not None


def _close_late(task: asyncio.Task[_Connection]) -> None:
    """A connection that was made although another had won."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


class _Connection(asyncio.Protocol):
    """One connection; what a server sends unasked ends it."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._lost = False
        self._asked = False
        self._reading = _Reading(lambda size: False)
        self._waiting: asyncio.Future[None] | None = None

    async def ask(self, request: bytes, take: Callable[[int], bool], silence: float) -> Raw:
        """See ``Connections.ask``."""
        if self._lost:
            raise _Unanswered("the connection ended")
        reading = self._reading = _Reading(take)
        self._asked = True
        self._transport.write(request)
        loop = asyncio.get_running_loop()
        while not reading.is_over:
            self._waiting = loop.create_future()
            async with asyncio.timeout(silence):
                await self._waiting
        self._asked = False
        return reading.answer()

    @property
    def is_reusable(self) -> bool:
        """Whether another exchange may be made on it."""
        return not self._lost and self._reading.leaves_open

    def close(self) -> None:
        """End it at once; what was not read is not wanted."""
        self._lost = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; uvloop's are none of asyncio's classes."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read what came; whoever waits looks after every piece."""
        if not self._asked or self._reading.is_over:
            self.close()
            return
        self._reading.feed(data)
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self._lost = True
        self._reading.end(whole=error is None)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class _Reading:
    """One answer while it is read; the parser calls the methods whose names begin with ``on_``."""

    def __init__(self, take: Callable[[int], bool]) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._take = take
        self._status = 0  # Of the answer itself, once its head is whole.
        self._headers: dict[str, str] = {}
        self._content = bytearray()
        self._other = 0  # Bytes since the last piece of content.
        self._heard = self._keeps_alive = self._whole = self._surplus = False
        self._failure: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is an answer, or a reason for none."""
        return self._whole or self._failure is not None

    @property
    def leaves_open(self) -> bool:
        """Whether the server goes on listening and has sent nothing behind the answer."""
        return self._whole and self._keeps_alive and not self._surplus

    def answer(self) -> Raw:
        """The answer, or raise what came in its way."""
        if self._failure is not None:
            raise self._failure
        return Raw(self._status, self._headers, bytes(self._content))

    def feed(self, data: bytes) -> None:
        """Parse a piece."""
        self._heard = True
        self._other += len(data)
        try:
            self._parser.feed_data(data)
            if self._other > HEAD_BYTES and not self.is_over:
                self._failure = Broken("the answer's head does not end")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._whole:
                self._surplus = True
            else:
                self._failure = self._failure or Broken("the answer is not HTTP")

    def end(self, *, whole: bool) -> None:
        """The connection ended: with it an answer without a length; any other is cut off."""
        if self.is_over:
            return
        measured = {"content-length", "transfer-encoding"} & self._headers.keys()
        if self._status and not measured and whole:
            self._whole = True
        else:
            self._failure = Broken("the answer was cut off") if self._heard else _Unanswered("no answer")

    def on_message_begin(self) -> None:
        """Begin an answer; one that follows the whole one was not asked for."""
        self._surplus = self._whole

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; one that comes twice is one list (RFC 9110 §5.2)."""
        if self._status:
            return  # A trailer, or what was not asked for.
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Note the status and whether the server goes on listening; a provisional answer (1xx) counts for nothing."""
        if self._status:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
        else:
            self._status, self._keeps_alive = status, self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of content when it is wanted."""
        self._other = 0
        if self._whole or self._failure is not None:
            return
        if self._take(len(body)):
            self._content += body
        else:
            self._failure = TooMuch()

    def on_message_complete(self) -> None:
        """End the answer; after a provisional one another follows."""
        self._whole = self._status != 0
