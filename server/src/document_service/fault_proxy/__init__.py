"""A small TCP proxy that behaves like the networks of clinics: slow, cut, absent, or answering in another's name.

It listens on a free loopback port in front of one upstream. Tests, the demo and the benchmarks put it between the
client and the service; its weather is changed while connections are open:

    with FaultProxy("http://127.0.0.1:3020") as proxy:
        client = Client(proxy.url)
        proxy.apply(Faults(round_trip_seconds=0.6, bytes_per_second_up=8000, bytes_per_second_down=8000))
        proxy.apply(Faults(network="refuse"))
        proxy.heal()
        proxy.answer_next(problem(503, "UNAVAILABLE", headers={"Retry-After": "1"}), times=2)
        assert proxy.counts().requests == 3

It runs a loop of its own in a thread of its own, so synchronous and asynchronous code use it alike; every method may
be called from any thread. HTTP/1.1 without TLS is understood (counted, answered, altered); any other protocol in
which the client speaks first passes as bytes. With pipelined requests an answer of ours may overtake one of the
upstream's; our clients do not pipeline.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from document_service.fault_proxy.connection import Connection
from document_service.fault_proxy.weather import Answer, Counts, Faults, Weather, page, problem

__all__ = ["Answer", "Counts", "FaultProxy", "Faults", "page", "problem"]

_T = TypeVar("_T")

# Starting, stopping and changing the weather take about a millisecond; this only bounds a broken loop.
_CALL_SECONDS: Final = 10.0


class FaultProxy:
    """A proxy in front of ``upstream``; use it in a ``with`` block, or call ``start`` and ``stop``."""

    def __init__(self, upstream: str, *, port: int = 0, seed: int = 0) -> None:
        """``upstream``: a URL or ``host:port``. ``port``: where to listen (0 = a free one). ``seed``: for loss.

        Raises:
            ValueError: when ``upstream`` names no port.
        """
        parts = urlsplit(upstream if "//" in upstream else f"//{upstream}")
        if parts.hostname is None or parts.port is None:
            raise ValueError("the upstream must be a URL or host:port, with its port")
        self._upstream = (parts.hostname, parts.port)
        self._seed = seed
        self.port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._keeper: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._connections: dict[Connection, asyncio.Task[Any] | None] = {}
        self._weather: Weather | None = None

    @property
    def url(self) -> str:
        """Where clients connect to, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Listen. The port is ours until ``stop``, also while connections are refused.

        Raises:
            OSError: when the port is taken.
        """
        self._keeper = _bound(self.port)
        self.port = self._keeper.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._await(self._set_up())
        return self

    def stop(self) -> None:
        """Reset every connection, free the port and end the thread; a second call does nothing."""
        if self._loop is None or self._thread is None or self._keeper is None:
            return
        self._await(self._tear_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_SECONDS)
        self._loop.close()
        self._keeper.close()
        self._loop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def apply(self, faults: Faults) -> None:
        """Put ``faults`` in force in place of those before, also for open connections."""
        self._await(self._change(faults))

    def heal(self) -> None:
        """Make the network perfect again and drop prepared answers."""
        self._await(self._change(Faults()))
        self._on_loop(Weather.forget_answers)

    def answer_next(self, answer: Answer, *, times: int = 1) -> None:
        """Answer the next ``times`` requests that ``answer`` concerns here, without asking the upstream."""
        self._on_loop(lambda weather: weather.prepare(answer, times))

    def counts(self) -> Counts:
        """What has passed so far."""
        return self._on_loop(lambda weather: weather.counts)

    def requests(self) -> list[tuple[str, str]]:
        """Method and target of every request head that arrived, oldest first."""
        return self._on_loop(lambda weather: list(weather.seen))

    def reset_counts(self) -> None:
        """Start counting and remembering requests anew."""

        def clear(weather: Weather) -> None:
            weather.counts = Counts()
            weather.seen.clear()

        self._on_loop(clear)

    # --- on the loop's own thread -----------------------------------------------------------------------------

    def _await(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the fault proxy is not started")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)

    def _on_loop(self, act: Callable[[Weather], _T]) -> _T:
        async def run() -> _T:
            return act(self._current)

        return self._await(run())

    @property
    def _current(self) -> Weather:
        if self._weather is None:
            raise RuntimeError("the fault proxy is not started")
        return self._weather

    async def _set_up(self) -> None:
        self._weather = Weather(self._seed)
        await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, sock=_bound(self.port))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self._current, self._upstream, reader, writer)
        self._current.count(connections=1)
        self._connections[connection] = asyncio.current_task()
        try:
            await connection.run()
        finally:
            self._connections.pop(connection, None)

    async def _change(self, faults: Faults) -> None:
        self._current.change(faults)
        if faults.network == "refuse":
            await self._stop_listening()
        elif self._server is None:
            await self._listen()

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in self._connections:
            connection.reset()
        # The resets are sent when the connections' own tasks have run.
        if open_ones := [task for task in self._connections.values() if task is not None]:
            await asyncio.wait(open_ones)

    async def _tear_down(self) -> None:
        await self._stop_listening()


def _bound(port: int) -> socket.socket:
    """A socket on this loopback port. It does not listen, so the port is kept and connections to it are refused.

    The sockets of one proxy share their port (SO_REUSEPORT): one keeps it, the other comes and goes as listener.
    """
    # With the protocol named, asyncio switches Nagle's algorithm off; without it every answer waits 40 ms.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock
