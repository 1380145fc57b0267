"""The auditor's query: who did what with which record, page by page, as JSON or as FHIR AuditEvent (contract §2)."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from document_service import access, audit, audit_export
from document_service.api import paging, shapes, trail
from document_service.api.callers import Auditor, Opened
from document_service.audit import Recorded
from document_service.database import tenant_transaction
from document_service.runtime import Runtime

router = APIRouter(prefix="/v1/audit-events", tags=["audit"])

Text = Annotated[str | None, Query(max_length=200)]


def _shown(event: Recorded, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": event.id,
        "action": event.action,
        "outcome": event.outcome,
        "actor": event.actor,
        "recordedAt": shapes.instant(event.recorded_at),
        "occurredAt": None if event.occurred_at is None else shapes.instant(event.occurred_at),
        "deviceId": event.device_id,
        "documentId": event.document_id,
        "jobId": event.job_id,
        "templateId": event.template_id,
        "uploadId": event.upload_id,
        "patientId": event.patient_id,
        "requestId": event.request_id,
        "chainSequence": event.chain_seq,
        "detail": detail,
    }


def _opened(runtime: Runtime, tenant_id: str, event: Recorded) -> dict[str, Any]:
    """The detail with what is sealed of it in the clear: an auditor is who it was kept for."""
    detail = dict(event.detail)
    sealed = detail.pop("reasonSealed", None)
    if sealed is not None:
        detail["reason"] = runtime.keys.unseal(tenant_id, "audit-reason", base64.b64decode(sealed)).decode()
    rest = detail.pop("restSealed", None)
    if rest is not None:
        opened = json.loads(runtime.keys.unseal(tenant_id, "device-event", base64.b64decode(rest)))
        detail["event"] = detail["event"] | opened
    return detail


@router.get("", summary="The audit trail, newest first")
async def query(
    caller: Auditor,
    runtime: Opened,
    request: Request,
    action: Annotated[str | None, Query(max_length=100, description="document.view, or a prefix: device.*")] = None,
    actor: Text = None,
    outcome: Literal["success", "failure"] | None = None,
    document_id: Annotated[str | None, Query(alias="documentId", max_length=64)] = None,
    patient_id: Annotated[str | None, Query(alias="patientId", max_length=64)] = None,
    device_id: Annotated[str | None, Query(alias="deviceId", max_length=64)] = None,
    since: Annotated[shapes.Instant | None, Query(alias="from", description="Recorded at or after.")] = None,
    until: Annotated[shapes.Instant | None, Query(alias="to", description="Recorded before.")] = None,
    form: Annotated[Literal["json", "fhir"], Query(alias="format")] = "json",
    cursor: paging.Cursor = None,
    limit: paging.Limit = paging.DEFAULT_LIMIT,
) -> Response:
    wanted = audit.Query(action, actor, outcome, document_id, patient_id, device_id, since, until)
    after = paging.decode(cursor)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        facilities = access.facilities_of(caller)
        rows = await audit.search(connection, caller.tenant, wanted, after, limit + 1, facilities)
        # Whoever reads the trail is in the trail, with each page: a cursor is nothing that only a first page can give.
        read = trail.event(request, caller, "audit.read", patient_id=patient_id, document_id=document_id)
        await audit.record(connection, caller.tenant, read)
    if form == "fhir":
        return _bundle(caller.tenant, rows, limit, request)
    return JSONResponse(paging.page(rows, limit, lambda event: _shown(event, _opened(runtime, caller.tenant, event))))


def _bundle(tenant_id: str, rows: list[Recorded], limit: int, request: Request) -> Response:
    page = paging.page(rows, limit, lambda event: audit_export.audit_event(tenant_id, event))
    links = []
    if page["nextCursor"] is not None:
        given = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        url = f"/v1/audit-events?{urlencode([*given, ('cursor', page['nextCursor'])])}"
        links.append({"relation": "next", "url": url})
    return JSONResponse(audit_export.bundle(page["items"], links), media_type="application/fhir+json")
