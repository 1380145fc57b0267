"""Routes of render jobs and of synchronous generation (contract §3)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import JSONResponse

from document_service import audit, intake, render_jobs
from document_service.api import paging, problems, shapes, trail
from document_service.api.callers import Clinician, Opened
from document_service.api.exact import ExactRoute
from document_service.api.mutation_ids import somebodys_id
from document_service.api.synchronous import wait_for_document
from document_service.database import tenant_transaction
from document_service.errors import (
    IdempotencyKeyMismatch,
    IdempotencyKeyRequired,
    InvalidRequest,
    Problem,
    ServiceError,
    TooLarge,
)
from document_service.render_requests import RenderRequest
from document_service.runtime import Runtime
from document_service.tokens import Caller

router = APIRouter(prefix="/v1/documents", tags=["render jobs"], route_class=ExactRoute)

#: Inputs are printed on one form; more than this is not typed by a person.
INPUTS_LIMIT = 64 * 1024

MutationHeader = Annotated[str | None, Header(alias="X-Client-Mutation-Id", max_length=64)]
KeyHeader = Annotated[str | None, Header(alias="Idempotency-Key", max_length=64)]


def _mutation_id(*given: str | uuid.UUID | None) -> str | None:
    """The one id among body and headers.

    Raises:
        IdempotencyKeyMismatch: two of them differ.
        InvalidRequest: one is not a UUID, or one of the two that programs send when they made none.
    """
    ids = set()
    for text in given:
        if text is None:
            continue
        try:
            ids.add(str(somebodys_id(uuid.UUID(str(text)))))
        except ValueError:
            problem = Problem("/clientMutationId", "UUID_PARSING", "Send a UUID, made once per user action.")
            raise InvalidRequest(errors=(problem,)) from None
    if len(ids) > 1:
        raise IdempotencyKeyMismatch()
    return ids.pop() if ids else None


def render_request(body: shapes.RenderContent) -> RenderRequest:
    """The content of a request as the records know it.

    Raises:
        TooLarge, InvalidRequest: the inputs are too long or cannot be stored.
    """
    not_after = getattr(body, "not_after", None)
    check = None
    if body.patient_check is not None:
        check = body.patient_check.model_dump(mode="json", by_alias=True)
    request = RenderRequest(
        template_version_id=body.template_version_id,
        patient_id=body.patient_id,
        encounter_id=body.encounter_id,
        inputs=body.inputs,
        locale=body.locale,
        not_after=not_after,
        not_after_text=None if not_after is None else shapes.instant(not_after),
        patient_check=check,
    )
    try:
        if len(request.content) > INPUTS_LIMIT:
            raise TooLarge("/inputs: inputs may have 64 KB.")
    except (ValueError, RecursionError):
        problem = Problem("/inputs", "NOT_STORABLE", "The inputs hold text or numbers that JSON cannot carry.")
        raise InvalidRequest(errors=(problem,)) from None
    return request


async def _enqueue(
    runtime: Runtime, caller: Caller, body: shapes.RenderJobRequest, client_mutation_id: str
) -> intake.Accepted:
    request = render_request(body)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        return await intake.accept(
            connection,
            runtime.keys,
            caller,
            client_mutation_id,
            request,
            body.requested_at,
            window=runtime.settings.dedup_window,
        )


@router.post(
    "/render-jobs",
    status_code=202,
    response_model=shapes.JobShape,
    responses={200: {"model": shapes.JobShape, "description": "A replay: the job as it is now."}},
    summary="Enqueue or replay a render request",
)
async def enqueue(
    body: shapes.RenderJobRequest,
    caller: Clinician,
    runtime: Opened,
    mutation_header: MutationHeader = None,
    key_header: KeyHeader = None,
) -> Response:
    client_mutation_id = _mutation_id(body.client_mutation_id, mutation_header, key_header)
    if client_mutation_id is None:
        problem = Problem("/clientMutationId", "MISSING", "This field is required.")
        raise InvalidRequest(errors=(problem,))
    accepted = await _enqueue(runtime, caller, body, client_mutation_id)
    headers = {"Location": f"/v1/documents/render-jobs/{accepted.job.id}"}
    if not accepted.new:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(shapes.job(accepted.job), 202 if accepted.new else 200, headers)


@router.get("/render-jobs", summary="My render jobs, newest first")
async def list_mine(
    caller: Clinician,
    runtime: Opened,
    status: Annotated[str | None, Query(pattern="^(queued|running|completed|failed)$")] = None,
    cursor: paging.Cursor = None,
    limit: paging.Limit = paging.DEFAULT_LIMIT,
) -> Response:
    after = paging.decode(cursor)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        rows = await render_jobs.list_mine(connection, caller, status, after, limit + 1)
    return JSONResponse(paging.page(rows, limit, shapes.job))


@router.get("/render-jobs/{job_id}", response_model=shapes.JobShape, summary="One render job")
async def show(job_id: str, caller: Clinician, runtime: Opened, request: Request) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        job = await render_jobs.show(connection, caller, job_id)
    etag = f'"{job.id}.{job.status}.{job.attempts}.{job.generation}{".purged" if job.purged_at else ""}"'
    if shapes.etag_matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers={"ETag": etag})
    return JSONResponse(shapes.job(job), headers={"ETag": etag})


@router.post(
    "/render-jobs/{job_id}/retry", status_code=202, response_model=shapes.JobShape, summary="Try a failed job again"
)
async def retry(job_id: str, caller: Clinician, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        job = await render_jobs.show(connection, caller, job_id, for_update=True)
        job = await intake.retry(connection, job)
    return JSONResponse(shapes.job(job), 202, {"Location": f"/v1/documents/render-jobs/{job.id}"})


@router.post("/render-jobs/lookup", summary="Which clientMutationIds the server knows")
async def lookup(body: shapes.LookupRequest, caller: Clinician, runtime: Opened) -> Response:
    ids = [str(item) for item in body.client_mutation_ids]
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        known = await render_jobs.lookup(connection, caller, ids)
    items: list[dict[str, Any]] = []
    for item in ids:
        entry: dict[str, Any] = {"clientMutationId": item, "known": item in known}
        if item in known:
            entry["job"] = shapes.job(known[item])
        items.append(entry)
    return JSONResponse({"items": items})


@router.post("/render-jobs/batch", summary="Up to 50 render requests, each committed and answered on its own")
async def batch(body: shapes.BatchRequest, caller: Clinician, runtime: Opened, request: Request) -> Response:
    items = []
    for raw in body.items:
        given = raw.get("clientMutationId") if isinstance(raw, dict) else None
        entry: dict[str, Any] = {"clientMutationId": given if isinstance(given, str) else None}
        try:
            item = shapes.RenderJobRequest.model_validate(raw)
            client_mutation_id = _mutation_id(item.client_mutation_id)
            if client_mutation_id is None:
                raise InvalidRequest(errors=(Problem("/clientMutationId", "MISSING", "This field is required."),))
            accepted = await _enqueue(runtime, caller, item, client_mutation_id)
            entry |= {"status": 202 if accepted.new else 200, "job": shapes.job(accepted.job)}
        except ValidationError as fault:
            errors = [{**e, "loc": ("body", *e["loc"])} for e in fault.errors()]
            refused = problems.from_validation(RequestValidationError(errors))
            entry |= {"status": refused.status, "problem": problems.body_of(refused, request.state.request_id)}
        except ServiceError as refused:
            entry |= {"status": refused.status, "problem": problems.body_of(refused, request.state.request_id)}
        items.append(entry)
    return JSONResponse({"items": items})


@router.post(
    "/generate",
    status_code=201,
    response_model=shapes.DocumentShape,
    responses={201: {"content": {"application/pdf": {}}, "description": "The document, or the PDF itself."}},
    summary="Render now, from live data",
)
async def generate(
    body: shapes.GenerateRequest,
    caller: Clinician,
    runtime: Opened,
    request: Request,
    key_header: KeyHeader = None,
    mutation_header: MutationHeader = None,
) -> Response:
    client_mutation_id = _mutation_id(key_header, mutation_header)
    if key_header is None or client_mutation_id is None:
        raise IdempotencyKeyRequired()
    content = render_request(body)

    async def accept() -> intake.Accepted:
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            return await intake.accept(
                connection,
                runtime.keys,
                caller,
                client_mutation_id,
                content,
                datetime.now(UTC),
                window=runtime.settings.dedup_window,
                kind="sync",
            )

    document, replayed = await wait_for_document(runtime, caller, accept)
    headers = {"Location": f"/v1/documents/{document.id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    status = 200 if replayed else 201
    if "application/pdf" in request.headers.get("accept", ""):
        pieces = [piece async for piece in runtime.store.read(document.tenant_id, document.object_name)]
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            fetched = trail.event(request, caller, "document.download", document)
            await audit.record(connection, caller.tenant, fetched)
        headers |= {"ETag": f'"{document.sha256}"', "X-Document-Id": document.id}
        return Response(b"".join(pieces), status, headers, "application/pdf")
    return JSONResponse(shapes.document(document), status, headers)
