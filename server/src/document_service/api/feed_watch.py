"""Waiting for a change: one look at the database a tick for all who wait in this process, however many they are.

PostgreSQL's NOTIFY would tell sooner, but takes a lock over the whole cluster at every commit that notifies, and every
commit of ours changes the feed; two cheap queries a second cost less and bound the delay by the tick.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from document_service import changes
from document_service.changes import Position
from document_service.database import system_transaction
from document_service.errors import ServiceError
from document_service.runtime import Runtime
from document_service.telemetry import log

#: Half of it is the mean delay of a change on a device that waits; a person does not feel it.
TICK_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class _Waiter:
    after: Position
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class FeedWatch:
    """Who waits for changes of which tenant, in one process."""

    def __init__(self, runtime: Runtime) -> None:
        """Nothing runs until somebody waits."""
        self._runtime = runtime
        self._waiting: dict[str, set[_Waiter]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, tenant_id: str, after: Position, seconds: float) -> None:
        """Return when the tenant has a change behind ``after``, when the service stops, or after ``seconds``."""
        waiter = _Waiter(after)
        self._waiting.setdefault(tenant_id, set()).add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(waiter.woken.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._waiting[tenant_id].discard(waiter)
            if not self._waiting[tenant_id]:
                del self._waiting[tenant_id]

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(TICK_SECONDS)
            if self._runtime.leaving.is_set():
                self._wake_all()
                return
            try:
                async with system_transaction(self._runtime.database) as connection:
                    newest = await changes.newest(connection, list(self._waiting))
            except ServiceError as error:
                # They go on waiting; each asks for itself when its time is over.
                log.warning("feed.not-watched", code=error.code)
                continue
            for tenant_id, position in newest.items():
                for waiter in self._waiting.get(tenant_id, ()):
                    if waiter.after < position:
                        waiter.woken.set()

    def _wake_all(self) -> None:
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.woken.set()
