"""What we need of the queue engine, and nothing else of it: enqueue, withdraw, release, run, stats, requeue.

The engine is pgqueuer in a schema of its own. An entry holds ids only: ``document_render_jobs`` is the truth, and
an entry commits in the transaction that inserts its job (design §3).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel

from document_service.database import Connection, Database

#: The engine's log and statistics are for operators and may be lost in a crash; the queue itself may not.
ENGINE_SETTINGS = DBSettings(db_schema="queue", channel=Channel("document_render"), durability=Durability.balanced)

#: A worker that has not been heard of for this long is dead and its job is taken over. With the poll below the
#: takeover happens within 15 s (contract §3); the engine beats every half of it.
HEARTBEAT_TIMEOUT = timedelta(seconds=8)

#: How often a worker looks by itself when no notification reached it; bounds the takeover and the retry delay.
POLL_INTERVAL = timedelta(seconds=2)

#: What a handler is given: tenant id and job id.
Handler = Callable[[str, str], Awaitable[None]]


class TryAgain(Exception):
    """Raised by a handler to have the entry again after ``delay``."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__("the job is tried again")
        self.delay = delay


async def enqueue(
    connection: Connection, tenant_id: str, job_id: str, generation: int, lane: str, *, urgent: bool = False
) -> None:
    """Put a job into the queue in the caller's transaction; an entry of the same generation stays single.

    ``urgent`` goes before the rest of its lane: somebody waits for the answer.
    """
    await connection.execute(
        "SELECT document.enqueue_render($1, $2, $3, $4, $5)", tenant_id, job_id, generation, lane, 10 if urgent else 0
    )


async def withdraw(connection: Connection, tenant_id: str, job_id: str) -> None:
    """Take a job's waiting entry out of the queue, in the caller's transaction."""
    await connection.execute("SELECT document.dequeue_render($1, $2)", tenant_id, job_id)


async def release(connection: Connection, tenant_id: str, lane: str) -> None:
    """Give the slot of a job that leaves its lane to the tenant's next one, in the transaction that says so."""
    await connection.execute("SELECT document.release_slot($1, $2)", tenant_id, lane)


async def reconcile(connection: Connection) -> int:
    """Set the slots right and admit what there is room for; the number admitted. System role only."""
    count: int = await connection.fetchval("SELECT document.reconcile_slots()")
    return count


async def requeue_lost(connection: Connection, older_than: timedelta) -> int:
    """Give every unfinished job and scan without an entry a new one; the number of those. System role only."""
    count: int = await connection.fetchval(
        "SELECT document.requeue_lost($1) + document.requeue_lost_scans($1)", older_than
    )
    return count


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Entries that wait and run, jobs that wait for admission, and the age of the oldest waiting entry in seconds."""

    waiting: int
    backlog: int
    running: int
    oldest_waiting_seconds: float


async def stats(connection: Connection) -> QueueStats:
    """Count the entries. System role only."""
    row = await connection.fetchrow(
        """SELECT count(*) FILTER (WHERE status = 'queued') AS waiting,
                  count(*) FILTER (WHERE status = 'picked') AS running,
                  (SELECT count(*) FROM queue.render_backlog) AS backlog,
                  coalesce(extract(epoch FROM now() - min(created) FILTER (WHERE status = 'queued')), 0) AS oldest
           FROM queue.pgqueuer"""
    )
    assert row is not None
    return QueueStats(row["waiting"], row["backlog"], row["running"], float(row["oldest"]))


class _Manager(QueueManager):
    """The engine's manager, whose first health probe waits until the listener can hear it.

    The engine sends the probe before it has begun to listen; whoever loses that race restarts ten seconds later.
    """

    async def _run_periodic_health_check(self, interval: timedelta = timedelta(seconds=10)) -> None:
        await asyncio.sleep(POLL_INTERVAL.total_seconds())
        await super()._run_periodic_health_check(interval)


async def run(database: Database, handlers: Mapping[str, Handler], stop: asyncio.Event, concurrency: int) -> None:
    """Take entries and hand them to ``handlers`` by entrypoint until ``stop`` is set; then let the running end.

    Raises whatever ends the engine (a lost connection); the caller starts it again.
    """
    queries = Queries(
        AsyncpgPoolDriver(database.system),
        qbe=qb.QueryBuilderEnvironment(settings=ENGINE_SETTINGS),
        qbq=qb.QueryQueueBuilder(settings=ENGINE_SETTINGS),
        qbs=qb.QuerySchedulerBuilder(settings=ENGINE_SETTINGS),
    )
    manager = _Manager(queries, channel=ENGINE_SETTINGS.channel)
    for name, handler in handlers.items():
        manager.entrypoint(name, accepts_context=False)(_adapted(handler))

    async def follow_stop() -> None:
        await stop.wait()
        manager.shutdown.set()

    follower = asyncio.create_task(follow_stop())
    try:
        batch = max(1, concurrency // 2)
        await manager.run(
            dequeue_timeout=POLL_INTERVAL,
            batch_size=batch,
            max_concurrent_tasks=2 * batch,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            shutdown_on_listener_failure=True,
        )
    finally:
        follower.cancel()


def _adapted(handler: Handler) -> Callable[[Job], Awaitable[None]]:
    async def handle(job: Job) -> None:
        ids = json.loads(job.payload or b"{}")
        try:
            await handler(ids["tenant"], ids["job"])
        except TryAgain as again:
            raise RetryRequested(again.delay, "may pass") from None

    return handle
