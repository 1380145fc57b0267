"""What has to be done now and then, in any one process: lost entries, tombstones, the audit chain, the sync marks.

Each chore has a beat of its own, so that one that waits for a store or a lock does not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from document_service import epoch, queue, render_jobs, sequencing, store_care, templates, upload_scanning
from document_service.database import system_transaction
from document_service.errors import ServiceError
from document_service.runtime import Runtime
from document_service.telemetry import log

#: How often the round is made; a lost queue entry waits at most this and the age below.
ROUND = timedelta(seconds=10)

#: A job is committed with its entry, so one that has had none for this long has lost it.
LOST_AFTER = timedelta(seconds=30)

#: Finished jobs keep their sealed request this long; then the row is a tombstone that still answers replays.
JOBS_KEPT = timedelta(days=90)

#: How often a process asks whether the daily sweep is due; one of them then does it.
SWEEP_LOOK = timedelta(minutes=10)


async def keep_house(runtime: Runtime, stop: asyncio.Event) -> None:
    """Do every chore at its beat until ``stop`` is set."""
    heads: dict[str, int] = {}
    await asyncio.gather(
        _repeat(lambda: make_round(runtime), ROUND, stop),
        _repeat(lambda: sequencing.chain_events(runtime), sequencing.CHAIN_ROUND, stop),
        _repeat(lambda: sequencing.sign_heads(runtime, heads), sequencing.HEAD_ROUND, stop),
        _repeat(runtime.epochs.look, epoch.LOOK_EVERY, stop),
        _repeat(lambda: _sweep(runtime), SWEEP_LOOK, stop),
    )


async def _repeat(work: Callable[[], Awaitable[object]], every: timedelta, stop: asyncio.Event) -> None:
    """Repeat a chore until ``stop`` is set; one that fails is done again at the next turn."""
    while not stop.is_set():
        try:
            await work()
        except ServiceError as error:
            log.warning("housekeeping.postponed", code=error.code)
        except Exception:
            log.exception("housekeeping.failed")
        try:
            await asyncio.wait_for(stop.wait(), every.total_seconds())
        except TimeoutError:
            continue


async def _sweep(runtime: Runtime) -> None:
    """Let the daily sweep begin only where a loss of commits would have been noticed: it deletes what no row names."""
    if runtime.epochs.decided:
        await store_care.sweep_when_due(runtime.database, runtime.store)


async def make_round(runtime: Runtime) -> None:
    """One round; safe to run in several processes at once.

    A transaction for each part: the first locks the slots of every tenant, for which whoever asks or finishes waits.
    """
    async with system_transaction(runtime.database) as connection:
        admitted = await queue.reconcile(connection)
    async with system_transaction(runtime.database) as connection:
        requeued = await queue.requeue_lost(connection, LOST_AFTER)
    async with system_transaction(runtime.database) as connection:
        purged = await render_jobs.purge_finished(connection, JOBS_KEPT)
        forgotten = await render_jobs.forget_tombstones(connection, runtime.settings.dedup_window)
    async with system_transaction(runtime.database) as connection:
        promoted = await templates.promote_due(connection)
    abandoned = await upload_scanning.give_up_abandoned(runtime)
    leftover = await upload_scanning.delete_leftovers(runtime)
    if leftover:
        log.info("housekeeping.pieces-deleted", count=leftover)
    if abandoned:
        log.info("housekeeping.uploads-abandoned", count=abandoned)
    if promoted:
        log.info("housekeeping.versions-promoted", count=promoted)
    if admitted or requeued or purged or forgotten:
        log.info("housekeeping.round", admitted=admitted, requeued=requeued, purged=purged, forgotten=forgotten)
