"""What we need of the queue engine, and nothing else of it: enqueue, withdraw, release, run, stats, requeue.

The engine is pgqueuer in a schema of its own. An entry holds ids only: ``document_render_jobs`` is the truth, and
an entry commits in the transaction that inserts its job (design §3).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Context, Job
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel, JobId
from pgqueuer.ports.driver import NotifyCallback
from pgqueuer.ports.repository import EntrypointExecutionParameter

from document_service.database import Connection, Database, at_commit

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
    """Put a job into the queue when the caller's transaction commits; an entry of the same generation stays single.

    ``urgent`` goes before the rest of its lane: somebody waits for the answer. It locks the tenant's slots, for which
    other requests of the tenant wait: so it goes with the commit.
    """
    await at_commit(connection, "document.enqueue_render", tenant_id, job_id, generation, lane, 10 if urgent else 0)


async def withdraw(connection: Connection, tenant_id: str, job_id: str) -> None:
    """Take a job's waiting entry out of the queue, in the caller's transaction."""
    await connection.execute("SELECT document.dequeue_render($1, $2)", tenant_id, job_id)


async def release(connection: Connection, tenant_id: str, lane: str) -> None:
    """Give the slot of a job that leaves its lane to the tenant's next one, when the caller's transaction commits."""
    await at_commit(connection, "document.release_slot", tenant_id, lane)


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


class _Driver(AsyncpgPoolDriver):
    """The engine's way to the database, which hears what the engine hears.

    ``heard`` counts announcements of work, so that the manager can tell a queue that it has emptied from one that was
    filled meanwhile. Of many announcements the engine is told one: each costs it a look at the queue.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine)
        self.heard = 0
        self.told = False
        self._callback: NotifyCallback | None = None

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Listen for the engine, through ``_hear``."""
        self._callback = callback
        await super().add_listener(channel, self._hear)

    def _hear(self, payload: str | bytes | bytearray) -> None:
        assert self._callback is not None
        if "table_changed_event" not in str(payload):
            self._callback(payload)
            return
        self.heard += 1
        if not self.told:
            self.told = True
            self._callback(payload)

    def wake(self) -> None:
        """Have the manager look at the queue as if work had been announced."""
        if self._callback is not None:
            now = datetime.now(UTC).isoformat()
            self._callback(
                json.dumps(
                    {
                        "channel": ENGINE_SETTINGS.channel,
                        "operation": "update",
                        "sent_at": now,
                        "table": "pgqueuer",
                        "type": "table_changed_event",
                    }
                )
            )


class _Manager(QueueManager):
    """The engine's manager with our count of what is in hand.

    The engine's own count is in the database and lags behind: it looks again 100 ms after it was full, while the
    typesetters have nothing to do. Ours takes the next entry the moment that one ends, and asks for no more than
    there is room for. The claim itself, ``FOR UPDATE SKIP LOCKED``, is the engine's.
    """

    driver: _Driver
    most: int
    full = False

    async def fetch_jobs(
        self, batch_size: int, global_concurrency_limit: int | None, heartbeat_timeout: timedelta
    ) -> AsyncGenerator[Job, None]:
        """Claim entries until the queue is empty or as many are in hand as may be."""
        entrypoints = {name: EntrypointExecutionParameter(concurrency_limit=0) for name in self.entrypoint_registry}
        while not self.shutdown.is_set():
            room = self.most - len(self.job_context)
            if room < 1:
                # ``forget_job`` wakes when there is a place; until then nothing announced could be taken.
                self.full = self.driver.told = True
                return
            # What is announced from here on may be missing in the answer, so it must be heard.
            heard, self.driver.told = self.driver.heard, False
            jobs = await self.queries.dequeue(
                batch_size=room,
                entrypoints=entrypoints,
                queue_manager_id=self.queue_manager_id,
                global_concurrency_limit=None,
                heartbeat_timeout=heartbeat_timeout,
            )
            for job in jobs:
                yield job
            if len(jobs) < room and self.driver.heard == heard:
                return

    def forget_job(self, job_id: JobId, context: Context, task: asyncio.Task[None]) -> None:
        """Let go of a job that ended; its place is filled at once."""
        super().forget_job(job_id, context, task)
        if self.full:
            self.full = False
            self.driver.wake()

    async def _effective_dequeue_timeout(self, dequeue_timeout: timedelta) -> timedelta:
        """How long to wait for an announcement: until the next entry that is put off falls due, at most the poll."""
        if self.full:
            return dequeue_timeout
        rows = await self.driver.fetch(
            "SELECT min(execute_after) - now() AS due FROM queue.pgqueuer WHERE status = 'queued'"
            " AND entrypoint = ANY ($1)",
            list(self.entrypoint_registry),
        )
        due = rows[0]["due"]
        if not isinstance(due, timedelta):
            return dequeue_timeout
        return min(max(due, self.min_dequeue_poll_interval), dequeue_timeout)

    async def _run_periodic_health_check(self, interval: timedelta = timedelta(seconds=10)) -> None:
        # The engine sends its first probe before it has begun to listen; who loses that race restarts ten seconds
        # later. Ours waits until the listener can hear it.
        await asyncio.sleep(POLL_INTERVAL.total_seconds())
        await super()._run_periodic_health_check(interval)


def engine_queries(driver: _Driver) -> Queries:
    """The engine's statements, over its tables where ours are."""
    return Queries(
        driver,
        qbe=qb.QueryBuilderEnvironment(settings=ENGINE_SETTINGS),
        qbq=qb.QueryQueueBuilder(settings=ENGINE_SETTINGS),
        qbs=qb.QuerySchedulerBuilder(settings=ENGINE_SETTINGS),
    )


async def run(database: Database, handlers: Mapping[str, Handler], stop: asyncio.Event, concurrency: int) -> None:
    """Take entries and hand them to ``handlers`` by entrypoint, ``concurrency`` at most at a time, until ``stop`` is
    set; then let the running end.

    Raises whatever ends the engine (a lost connection); the caller starts it again.
    """
    driver = _Driver(database)
    manager = _Manager(engine_queries(driver), channel=ENGINE_SETTINGS.channel)
    manager.driver, manager.most = driver, concurrency
    for name, handler in handlers.items():
        manager.entrypoint(name, accepts_context=False)(_adapted(handler))

    async def follow_stop() -> None:
        await stop.wait()
        manager.shutdown.set()

    follower = asyncio.create_task(follow_stop())
    try:
        await manager.run(
            dequeue_timeout=POLL_INTERVAL,
            # Here it only says how many ended entries are put away together; 100 ms later they are in any case.
            batch_size=concurrency,
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
