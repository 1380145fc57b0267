"""The pool: renders wait in a bounded queue for a warm child, are timed, and never share a fate.

    waiting ──a child is free──▶ rendering ──reply──▶ done
       │                            ├──5 s──▶ killed, RENDER_TIMEOUT          (a fresh child is started)
       └──queue full──▶ BUSY        └──child ended──▶ RENDER_MEMORY | TYPESETTING_CRASHED

One lane for documents of a few pages, with a child per core and one warm spare, so that the job after a killed one
finds a child at once; one lane for large jobs, whose child is started when needed and ends with its job: a 2,000-row
document slows the next hundred small ones in the same process (typst #8628).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from document_service import errors
from document_service.errors import (
    Problem,
    RenderFailed,
    RenderTimeout,
    RenderTooLarge,
    ServiceError,
    TypesettingBusy,
    TypesettingCrashed,
)
from document_service.typesetting import wire
from document_service.typesetting.jobs import TypesetJob, TypesetResult
from document_service.typesetting.layout_files import install_layout
from document_service.typesetting.private_folder import PrivateFolder, remove_abandoned
from document_service.typesetting.process import CHILD_COMMAND, Child, Limits, spawn

log = logging.getLogger(__name__)

MiB = 1024 * 1024

# A page takes about 10 ms and ten pages 100; what needs 5 s is not a document of this lane (design §4).
SMALL_LIMITS = Limits(wall_seconds=5.0, memory_bytes=1536 * MiB, renders=1000, resident_bytes=400 * MiB)

# A 10,000-row table or 300 pages; its child ends with the job.
LARGE_LIMITS = Limits(wall_seconds=60.0, memory_bytes=2048 * MiB, renders=1, resident_bytes=0)

# The FHIR reads of one job are bounded below this; it is the last fence.
MAX_INPUT = 32 * MiB

# At 10 ms a document, 64 waiting for each child are under a second of work.
WAITING_PER_CHILD = 64
LARGE_WAITING = 8

# A child that cannot start (a broken installation, no memory) is tried again at this pace.
RESTART_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """What has happened since the start, for metrics and tests."""

    renders: int = 0
    refused: int = 0
    timeouts: int = 0
    crashes: int = 0
    recycled: int = 0
    busy: int = 0


@dataclass(slots=True)
class _Lane:
    """Children of one kind. At most ``width`` work at once; ``spares`` more are kept warm."""

    limits: Limits
    width: int
    spares: int
    max_waiting: int
    idle: list[Child] = field(default_factory=list)
    working: set[Child] = field(default_factory=set)
    starting: int = 0
    waiting: deque[asyncio.Future[Child]] = field(default_factory=deque)

    @property
    def wanted(self) -> int:
        """How many more children to start. A lane without spares starts one only for a job that waits."""
        have = len(self.idle) + len(self.working) + self.starting
        target = self.width + self.spares if self.spares else min(self.width, len(self.working) + len(self.waiting))
        return max(0, target - have)


class TypesettingPool:
    """Renders documents in child processes. ``start`` before the first ``render``; ``stop`` ends every child."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        spares: int = 1,
        limits: Limits = SMALL_LIMITS,
        large_limits: Limits = LARGE_LIMITS,
        waiting: int | None = None,
        command: Sequence[str] = CHILD_COMMAND,
    ) -> None:
        """Make a pool of ``workers`` children (one per core by default); ``waiting`` bounds its queue.

        Without ``spares`` the children start when a job first waits for one: an API that only shows previews.
        ``command`` starts a child; tests give one that misbehaves.
        """
        width = workers or len(os.sched_getaffinity(0))
        self._small = _Lane(limits, width, spares, max_waiting=waiting or WAITING_PER_CHILD * width)
        self._large = _Lane(large_limits, 1, spares=0, max_waiting=LARGE_WAITING)
        self._command = tuple(command)
        self._folder: PrivateFolder | None = None
        self._closed_port: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self.counts = Counts()

    async def __aenter__(self) -> TypesettingPool:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the children of the ordinary lane and wait until they are warm.

        Raises:
            TypesettingCrashed: a child does not start; the detail says why.
        """
        abandoned = await asyncio.to_thread(remove_abandoned)
        if abandoned:
            log.info("folders of killed typesetters removed: %d", abandoned)
        self._folder = PrivateFolder.make()
        # Bound and never listening: whatever a child tries to reach there is refused at once.
        self._closed_port = socket.socket()
        self._closed_port.bind(("127.0.0.1", 0))
        self._running = True
        lane = self._small
        if not lane.spares:
            return
        try:
            lane.idle.extend(await asyncio.gather(*(self._spawn(lane) for _ in range(lane.width + lane.spares))))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End every child; jobs in hand fail as crashed (retryable)."""
        self._running = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in (self._small, self._large):
            for future in lane.waiting:
                if not future.done():
                    future.set_exception(TypesettingCrashed("the typesetting pool stopped"))
            children = [*lane.idle, *lane.working]
            lane.idle.clear()
            await asyncio.gather(*(child.end() for child in children))
        if self._closed_port is not None:
            self._closed_port.close()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.remove)
            self._folder = None

    @property
    def engine(self) -> dict[str, str]:
        """The versions and hashes of the engine, as a warm child told them."""
        children = [*self._small.idle, *self._small.working]
        return dict(children[0].engine) if children else {}

    @property
    def resident_bytes(self) -> int:
        """The most memory that a child held after its last document."""
        return max((child.resident_bytes for child in (*self._small.idle, *self._small.working)), default=0)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a child."""
        return len(self._small.waiting) + len(self._large.waiting)

    async def render(self, job: TypesetJob) -> TypesetResult:
        """Typeset one document.

        Raises:
            TypesettingBusy: the queue is full, or no child starts (503; try again shortly).
            RenderTimeout, RenderMemory, RenderTooLarge: the job met its limit.
            TypesettingCrashed: the child ended; a retry may pass.
            ServiceError: what a binding, the data or the layout refused, with its own code.
        """
        if job.size > MAX_INPUT:
            raise RenderTooLarge(f"the data of one document may have {MAX_INPUT // MiB} MiB")
        lane = self._large if job.needs_large_lane else self._small
        request = _request(job)
        async with self._child(lane) as child:
            try:
                async with asyncio.timeout(lane.limits.wall_seconds):
                    head, sheets = await child.exchange(request)
            except TimeoutError:
                self.counts.timeouts += 1
                raise RenderTimeout(f"typesetting took longer than {lane.limits.wall_seconds:g} s") from None
            except ServiceError:
                self.counts.crashes += 1
                raise
            engine = child.engine
        if "error" in head:
            self.counts.refused += 1
            raise _refusal(head["error"])
        self.counts.renders += 1
        preview = job.output == "png"
        return TypesetResult(
            pdf=b"" if preview else sheets[0],
            pages=head["pages"],
            png=tuple(sheets) if preview else (),
            page_model_digest=head["pageModelDigest"],
            engine=engine,
            warnings=tuple(head["warnings"]),
            child_ms=head["ms"],
        )

    @contextlib.asynccontextmanager
    async def _child(self, lane: _Lane) -> AsyncIterator[Child]:
        """Lend a warm child; one that did not answer in order (or whose caller left) is ended and replaced."""
        child = await self._borrow(lane)
        try:
            yield child
        except BaseException:
            self._retire(lane, child)
            raise
        if child.worn_out:
            self.counts.recycled += 1
            self._retire(lane, child)
        else:
            lane.working.discard(child)
            self._offer(lane, child)

    async def _borrow(self, lane: _Lane) -> Child:
        if not self._running:
            raise TypesettingCrashed("the typesetting pool is not running")
        if lane.idle and len(lane.working) < lane.width and not lane.waiting:
            # The one used last has the warmest caches; the spare stays out of the way.
            child = lane.idle.pop()
            lane.working.add(child)
            return child
        if len(lane.waiting) >= lane.max_waiting:
            self.counts.busy += 1
            raise TypesettingBusy(headers={"Retry-After": "1"})
        future: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        lane.waiting.append(future)
        self._replenish(lane)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                lane.working.discard(future.result())
                self._offer(lane, future.result())
            elif future in lane.waiting:
                lane.waiting.remove(future)
            raise

    def _offer(self, lane: _Lane, child: Child) -> None:
        """Put a free child to work for the first that waits, or to rest."""
        lane.idle.append(child)
        self._serve_waiting(lane)

    def _serve_waiting(self, lane: _Lane) -> None:
        while lane.waiting and lane.idle and len(lane.working) < lane.width:
            future = lane.waiting.popleft()
            if not future.done():
                child = lane.idle.pop()
                lane.working.add(child)
                future.set_result(child)

    def _turn_away(self, lane: _Lane) -> None:
        """Refuse those that wait for a child that does not start; in a lane without spares no other may ever come."""
        while lane.waiting:
            future = lane.waiting.popleft()
            if not future.done():
                detail = "A typesetting process does not start; the log says why."
                future.set_exception(TypesettingBusy(detail, headers={"Retry-After": "5"}))

    def _retire(self, lane: _Lane, child: Child) -> None:
        lane.working.discard(child)
        self._background(child.end())
        self._serve_waiting(lane)
        self._replenish(lane)

    def _replenish(self, lane: _Lane) -> None:
        while self._running and lane.wanted > 0:
            lane.starting += 1
            self._background(self._add(lane))

    async def _add(self, lane: _Lane) -> None:
        try:
            child = await self._spawn(lane)
        except TypesettingCrashed as error:
            log.error("a typesetting process did not start: %s", error.detail)
            if not lane.spares:
                self._turn_away(lane)
            await asyncio.sleep(RESTART_SECONDS)
            child = None
        finally:
            lane.starting -= 1
        if child is not None:
            self._offer(lane, child)
        self._replenish(lane)

    async def _spawn(self, lane: _Lane) -> Child:
        assert self._folder is not None
        assert self._closed_port is not None
        proxy = f"http://127.0.0.1:{self._closed_port.getsockname()[1]}"
        self._folder.ensure()
        install_layout(self._folder.path)
        child = spawn(self._command, lane.limits, self._folder.path, proxy)
        try:
            await child.greet()
        except asyncio.CancelledError:
            await child.end()
            raise
        return child

    def _background(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _request(job: TypesetJob) -> bytes:
    if job.issued_at.utcoffset() is None:
        raise ValueError("issued_at needs an offset")
    parts = (
        {"pageModel": job.page_model_json}
        if job.page_model_json is not None
        else {
            "definition": job.definition_json,
            "resources": job.resources_json,
            "request": job.request_json,
        }
    )
    blobs = parts | {f"image:{name}": picture for name, picture in job.images.items()}
    head = {"names": list(blobs), "issuedAt": job.issued_at.isoformat(), "output": job.output}
    return wire.pack(head, list(blobs.values()))


def _error_classes(root: type[ServiceError]) -> dict[str, type[ServiceError]]:
    found = {root.code: root}
    for subclass in root.__subclasses__():
        found |= _error_classes(subclass)
    return found


_ERRORS = _error_classes(errors.ServiceError)


def _refusal(told: dict[str, Any]) -> ServiceError:
    kind = _ERRORS.get(told["code"], RenderFailed)
    problems = tuple(Problem(*entry) for entry in told["errors"])
    return kind(told["detail"], errors=problems, extra=told["extra"])
