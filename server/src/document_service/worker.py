"""The worker: takes render jobs and scans from the queue and runs them, until it is told to stop."""

from __future__ import annotations

import asyncio

from document_service import queue, rendering, upload_scanning
from document_service.runtime import Runtime
from document_service.telemetry import log

#: Jobs in hand per typesetting process: while one is typeset, others read FHIR, seal and commit.
IN_HAND_PER_PROCESS = 4

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

    async def scan(tenant_id: str, upload_id: str) -> None:
        try:
            await upload_scanning.scan(runtime, tenant_id, upload_id)
        except queue.TryAgain:
            raise
        except Exception:
            log.exception("scan.crashed", upload=upload_id)
            raise queue.TryAgain(upload_scanning.AGAIN_AFTER) from None

    handlers = {"render": render, "render_large": render, "scan": scan}
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
