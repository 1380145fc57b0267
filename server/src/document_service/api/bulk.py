"""Routes of bulk requests: many patients, one form, with progress and cancellation."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.responses import JSONResponse

from document_service import audit, bulk, intake
from document_service.api import problems, shapes
from document_service.api.callers import Opened, TenantAdmin
from document_service.api.exact import ExactRoute
from document_service.api.mutation_ids import MutationId
from document_service.api.render_jobs import render_request
from document_service.database import tenant_transaction
from document_service.errors import ServiceError
from document_service.runtime import Runtime
from document_service.tokens import Caller

router = APIRouter(prefix="/v1/documents/render-jobs/bulk", tags=["render jobs"], route_class=ExactRoute)

#: Items that commit together: a refusal writes nothing, and the tenant's slot row is held for this many inserts only.
CHUNK = 50


class BulkItem(shapes.Shape):
    """One patient of a bulk request."""

    client_mutation_id: MutationId
    patient_id: shapes.FhirId
    encounter_id: shapes.FhirId | None = None
    inputs: dict[str, Any] | None = None
    patient_check: shapes.PatientCheck | None = None


class BulkCreate(shapes.Shape):
    """POST /v1/documents/render-jobs/bulk; an item's inputs replace the common ones."""

    template_version_id: shapes.VersionId
    locale: shapes.Locale
    inputs: dict[str, Any] = Field(default_factory=dict)
    requested_at: shapes.Instant
    not_after: shapes.Instant | None = None
    items: Annotated[list[BulkItem], Field(min_length=1, max_length=1000)]

    def content_of(self, item: BulkItem) -> shapes.RenderJobRequest:
        """The item as the single request that it is."""
        return shapes.RenderJobRequest(
            template_version_id=self.template_version_id,
            locale=self.locale,
            inputs=self.inputs if item.inputs is None else item.inputs,
            requested_at=self.requested_at,
            not_after=self.not_after,
            patient_id=item.patient_id,
            encounter_id=item.encounter_id,
            patient_check=item.patient_check,
            client_mutation_id=item.client_mutation_id,
        )


@router.post("", status_code=202, summary="One template version for many patients")
async def create(body: BulkCreate, caller: TenantAdmin, runtime: Opened, request: Request) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        bulk_id = await bulk.create(connection, caller, body.template_version_id, len(body.items))
        await audit.record(
            connection, caller.tenant, audit.Event("render.bulk", caller.user, detail={"bulkId": bulk_id})
        )
    items: list[dict[str, Any]] = []
    for start in range(0, len(body.items), CHUNK):
        chunk = body.items[start : start + CHUNK]
        items += await _accept_chunk(runtime, caller, body, chunk, bulk_id, request.state.request_id)
    location = f"/v1/documents/render-jobs/bulk/{bulk_id}"
    return JSONResponse({"id": bulk_id, "items": items}, 202, {"Location": location})


async def _accept_chunk(
    runtime: Runtime,
    caller: Caller,
    body: BulkCreate,
    chunk: list[BulkItem],
    bulk_id: str,
    request_id: str,
) -> list[dict[str, Any]]:
    answers = []
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        for item in chunk:
            entry: dict[str, Any] = {"clientMutationId": str(item.client_mutation_id)}
            try:
                accepted = await intake.accept(
                    connection,
                    runtime.keys,
                    caller,
                    str(item.client_mutation_id),
                    render_request(body.content_of(item)),
                    body.requested_at,
                    window=runtime.settings.dedup_window,
                    kind="bulk",
                    bulk_id=bulk_id,
                )
                entry |= {"status": 202 if accepted.new else 200, "job": shapes.job(accepted.job)}
            except ServiceError as refused:
                if refused.retryable:
                    raise
                entry |= {"status": refused.status, "problem": problems.body_of(refused, request_id)}
            answers.append(entry)
    return answers


def _shown(request: bulk.Bulk) -> dict[str, Any]:
    return {
        "id": request.id,
        "templateVersionId": request.template_version_id,
        "items": request.items,
        "createdAt": shapes.instant(request.created_at),
        "cancelledAt": None if request.cancelled_at is None else shapes.instant(request.cancelled_at),
        "progress": {
            "queued": request.queued,
            "running": request.running,
            "completed": request.completed,
            "failed": request.failed,
        },
    }


@router.get("/{bulk_id}", summary="Progress of a bulk request")
async def show(bulk_id: str, caller: TenantAdmin, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        return JSONResponse(_shown(await bulk.show(connection, caller, bulk_id)))


@router.post("/{bulk_id}/cancel", summary="Do not begin what has not begun")
async def cancel(bulk_id: str, caller: TenantAdmin, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        await bulk.show(connection, caller, bulk_id)
        cancelled = await bulk.cancel(connection, bulk_id)
        await audit.record(
            connection,
            caller.tenant,
            audit.Event("render.bulk-cancel", caller.user, detail={"bulkId": bulk_id, "jobs": len(cancelled)}),
        )
        shown = await bulk.show(connection, caller, bulk_id)
    return JSONResponse(_shown(shown))
