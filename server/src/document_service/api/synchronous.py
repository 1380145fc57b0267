"""Waiting for a synchronous render: the same row, the same queue and the same code as an asynchronous one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from document_service import documents, intake, queue, render_jobs
from document_service.database import tenant_transaction
from document_service.errors import GenerateTimeout, ServiceError, error_of_code
from document_service.render_jobs import Job
from document_service.runtime import Runtime
from document_service.tokens import Caller

#: A person waits this long before being told that the document will come by itself (contract §3).
WAIT_SECONDS = 5.0

#: The worker's commit wakes us; this look at the row is for a notification that was lost with its connection.
LOOK_EVERY_SECONDS = 1.0


async def wait_for_document(
    runtime: Runtime, caller: Caller, accept: Callable[[], Awaitable[intake.Accepted]]
) -> tuple[documents.Document, bool]:
    """The document of a synchronous request, and whether an earlier request had made it.

    Raises:
        GenerateTimeout: five seconds passed; the job lives on and a repeat returns its document.
        ServiceError: the render failed; the request's id is not consumed.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    accepted = await accept()
    if accepted.job.status == "failed" and accepted.job.kind == "sync":
        # Nobody was left to take the failure away: this repeat starts afresh, as if the id was never used.
        await _forget(runtime, accepted.job)
        accepted = await accept()
    job = await _wait(runtime, caller, accepted.job, deadline)
    if job.status == "completed" and job.document_id is not None:
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            document = await documents.show_readable(connection, caller, job.document_id, runtime.keys)
        return document, not accepted.new
    if job.status == "failed":
        if job.kind == "sync":
            await _forget(runtime, job)
        raise _failure(job)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        await render_jobs.let_live_on(connection, job)
    raise GenerateTimeout(extra={"renderJobId": job.id})


async def _wait(runtime: Runtime, caller: Caller, job: Job, deadline: float) -> Job:
    while job.status in ("queued", "running") and time.monotonic() < deadline:
        event = runtime.finished.setdefault(job.id, asyncio.Event())
        try:
            await asyncio.wait_for(event.wait(), min(LOOK_EVERY_SECONDS, max(0.0, deadline - time.monotonic())))
        except TimeoutError:
            runtime.finished.pop(job.id, None)
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            job = await render_jobs.show(connection, caller, job.id)
    return job


async def _forget(runtime: Runtime, job: Job) -> None:
    async with tenant_transaction(runtime.database.app, job.tenant_id) as connection:
        await queue.withdraw(connection, job.tenant_id, job.id)
        await render_jobs.discard(connection, job)


def _failure(job: Job) -> ServiceError:
    """The job's error as the answer of the request that waited for it."""
    assert job.error_code is not None
    return error_of_code(job.error_code)(job.error_detail)
