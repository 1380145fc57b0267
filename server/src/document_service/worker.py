"""The worker: takes render jobs and scans from the queue and runs them, until it is told to stop."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from document_service import queue, rendering, upload_scanning
from document_service.runtime import Runtime
from document_service.telemetry import log

#: Jobs in hand per typesetting process: while one is typeset, others read FHIR, seal and commit.
IN_HAND_PER_PROCESS = 4

#: Large jobs in hand per process: one is typeset while the data of the next are read. The pool has one child for them,
#: and what waits for it must not fill the places of the ordinary lane.
LARGE_IN_HAND = 2

#: A large job that found those places taken asks again this much later.
LARGE_AGAIN_AFTER = timedelta(seconds=1)

#: After the queue engine fell over (a lost database connection) it is started again this much later, in seconds.
RESTART_DELAY = 1.0


async def work(runtime: Runtime, stop: asyncio.Event) -> None:
    """Run until ``stop`` is set; jobs in hand are finished first."""

    async def render(tenant_id: str, job_id: str) -> None:
        try:
            await rendering.run_attempt(runtime, tenant_id, job_id)
        except queue.TryAgain:
            raise
        except Exception:
            # Whatever this was, the job is not lost: its row is unfinished and housekeeping enqueues it again.
            log.exception("attempt.crashed", job=job_id)
            raise queue.TryAgain(queue.POLL_INTERVAL) from None

    large_in_hand = 0

    async def render_large(tenant_id: str, job_id: str) -> None:
        nonlocal large_in_hand
        if large_in_hand >= LARGE_IN_HAND:
            raise queue.TryAgain(LARGE_AGAIN_AFTER)
        large_in_hand += 1
        try:
            await render(tenant_id, job_id)
        finally:
            large_in_hand -= 1

    async def scan(tenant_id: str, upload_id: str) -> None:
        try:
            await upload_scanning.scan(runtime, tenant_id, upload_id)
        except queue.TryAgain:
            raise
        except Exception:
            log.exception("scan.crashed", upload=upload_id)
            raise queue.TryAgain(upload_scanning.AGAIN_AFTER) from None

    handlers = {"render": render, "render_large": render_large, "scan": scan}
    while not stop.is_set():
        try:
            await queue.run(runtime.database, handlers, stop, runtime.settings.workers * IN_HAND_PER_PROCESS)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("queue.restarts")
            try:
                await asyncio.wait_for(stop.wait(), RESTART_DELAY)
            except TimeoutError:
                continue
