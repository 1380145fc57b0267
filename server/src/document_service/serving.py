"""Serve and work: the long-running entries, in one process or apart."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn

from document_service import housekeeping, running, worker
from document_service.api import serve_app
from document_service.runtime import Runtime, open_runtime
from document_service.settings import SettingError, Settings
from document_service.telemetry import log

#: Requests in flight get this long to end when the service is told to stop, in seconds.
GRACE = 10

#: Objects made and not yet freed before the youngest are looked at for rings. Python's 700 are passed several times in
#: a render; a ring of ours is small, and some thousands of them are a few megabytes.
RINGS_AFTER = 10_000


class _Server(uvicorn.Server):
    """uvicorn, which would raise a caught signal again when it ends: before jobs in hand and PostgreSQL are stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to ``serve``."""
        yield

    def ask_to_exit(self) -> None:
        """Take no new connections, let requests end; a second signal does not wait for them."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def serve(settings: Settings, *, with_worker: bool, ready: Callable[[str], None]) -> None:
    """Run API, worker and housekeeping until a signal asks to stop; ``ready`` is told the address once it listens.

    Raises:
        SettingError: host and port cannot be listened on; nothing was opened.
    """
    with contextlib.closing(_bind(settings)) as listener:
        await _serve_on(listener, settings, with_worker, ready)


def _bind(settings: Settings) -> socket.socket:
    """Take the address before anything else is opened: a second ``serve`` by mistake ends here."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
        except OSError:
            listener.close()
            raise
    except OSError as reason:
        raise SettingError(
            f"--host and --port are {settings.host!r} and {settings.port}, where nothing can listen"
            f" ({(reason.strerror or str(reason)).lower()}); allowed is an address of this machine with a free port"
            " (0 picks one)."
        ) from None
    return listener


async def _serve_on(
    listener: socket.socket, settings: Settings, with_worker: bool, ready: Callable[[str], None]
) -> None:
    async with open_runtime(settings, typesetting=with_worker) as runtime, contextlib.AsyncExitStack() as stack:
        if runtime.local_issuer is not None:
            log.warning("identity.local-issuer", meaning="tokens of this machine's own key are accepted")
        config = uvicorn.Config(
            serve_app(runtime),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
            # A device behind a slow line keeps its connection between the requests of one sync.
            timeout_keep_alive=75,
        )
        server = _Server(config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _ask_to_exit, server, runtime)
        _settle_memory()
        stop = asyncio.Event()
        tasks = [asyncio.create_task(housekeeping.keep_house(runtime, stop))]
        if with_worker:
            tasks.append(asyncio.create_task(worker.work(runtime, stop)))
        tasks.append(asyncio.create_task(_announce(server, settings, ready, stack)))
        listening = asyncio.create_task(runtime.listen())
        try:
            await server.serve(sockets=[listener])
        finally:
            listening.cancel()
            await _finish(stop, tasks)


def _settle_memory() -> None:
    """What is there now stays until the process ends: the search for rings passes it over, and is made less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(RINGS_AFTER)


def _ask_to_exit(server: _Server, runtime: Runtime) -> None:
    server.ask_to_exit()
    runtime.leaving.set()


async def work_alone(settings: Settings, ready: Callable[[str], None]) -> None:
    """Run a worker without the API until a signal asks to stop."""
    async with open_runtime(settings, typesetting=True) as runtime:
        _settle_memory()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        with running.announced(settings.data_dir, "worker"):
            ready("worker")
            await _work_until(runtime, stop)


async def _work_until(runtime: Runtime, stop: asyncio.Event) -> None:
    tasks = [
        asyncio.create_task(worker.work(runtime, stop)),
        asyncio.create_task(housekeeping.keep_house(runtime, stop)),
    ]
    await stop.wait()
    await _finish(stop, tasks)


async def _finish(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Let jobs in hand end; what takes longer is cancelled and taken over by another worker."""
    stop.set()
    _, late = await asyncio.wait(tasks, timeout=GRACE)
    for task in late:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _announce(
    server: uvicorn.Server, settings: Settings, ready: Callable[[str], None], stack: contextlib.AsyncExitStack
) -> None:
    # uvicorn has no event for this; it sets a flag.
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://{settings.host}:{port}"
    stack.enter_context(running.announced(settings.data_dir, "serve", url))
    ready(url)
    sys.stdout.flush()
