"""Waiting for a synchronous render: the same row, the same queue and the same code as an asynchronous one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from document_service import access, documents, intake, queue, render_jobs
from document_service.database import tenant_transaction
from document_service.errors import GenerateTimeout, NotFound, error_of_code
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
    elif accepted.job.status == "failed" and error_of_code(accepted.job.error_code or "").retryable:
        accepted = replace(accepted, job=await _try_again(runtime, caller, accepted.job))
    while True:
        try:
            job, recorded = await _wait(runtime, caller, accepted.job, deadline)
            break
        except NotFound:
            # Another request with this key waited too, heard of the failure first and took it away: the key is free
            # again. However many wait, each asks again within its own five seconds.
            if time.monotonic() >= deadline:
                raise
            accepted = await accept()
    if recorded is None and job.status in ("queued", "running"):
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            # It may have ended since the last look at it; one that failed is not called one that lives on.
            job = await render_jobs.show(connection, caller, job.id, for_update=True)
            lives_on = job.status in ("queued", "running") and await render_jobs.let_live_on(connection, job)
        if lives_on:
            raise GenerateTimeout(extra={"renderJobId": job.id})
    if recorded is not None:
        if not access.permits(caller, recorded.subject):
            raise NotFound()
        return recorded, not accepted.new
    if job.status == "completed" and job.document_id is not None:
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            document = await documents.show_readable(connection, caller, job.document_id, runtime.keys)
        return document, not accepted.new
    async with tenant_transaction(runtime.database.app, job.tenant_id) as connection:
        failure = await intake.why_failed(connection, job)
    if job.kind == "sync":
        await _forget(runtime, job)
    raise failure


async def _wait(runtime: Runtime, caller: Caller, job: Job, deadline: float) -> tuple[Job, documents.Document | None]:
    """The job as it is when it has ended or the deadline has come; its document, when a worker in this process made it.

    Such a document is handed over as it was committed: reading it back would cost six round trips to the database.
    """
    while job.status in ("queued", "running") and time.monotonic() < deadline:
        future = runtime.waiting.get(job.id)
        if future is None:
            future = runtime.waiting[job.id] = asyncio.get_running_loop().create_future()
        await asyncio.wait([future], timeout=min(LOOK_EVERY_SECONDS, max(0.0, deadline - time.monotonic())))
        if not future.done():
            runtime.waiting.pop(job.id, None)
        elif (document := future.result()) is not None:
            return job, document
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            job = await render_jobs.show(connection, caller, job.id)
    return job, None


async def _try_again(runtime: Runtime, caller: Caller, job: Job) -> Job:
    """A job that lived on after its five seconds and failed by what may have passed: the repeat tries it again.

    It would be answered by the old failure for ever otherwise, and be told to repeat.
    """
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        job = await render_jobs.show(connection, caller, job.id, for_update=True)
        if job.status == "failed" and job.purged_at is None:
            job = await intake.retry(connection, job, urgent=True)
    return job


async def _forget(runtime: Runtime, job: Job) -> None:
    async with tenant_transaction(runtime.database.app, job.tenant_id) as connection:
        if await render_jobs.discard(connection, job):
            await queue.withdraw(connection, job.tenant_id, job.id)
