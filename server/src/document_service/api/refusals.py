"""Refused access in the audit trail: who tried what, without a word about what is there.

A 404 looks alike for a record that does not exist, one of another tenant and one of another facility; so does its
event, which holds only the id that the caller wrote. Bytes that failed their integrity check are recorded too.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request

from document_service import audit, identifiers, telemetry
from document_service.database import tenant_transaction
from document_service.errors import ObjectCorrupt, ObjectNotFound, ServiceError
from document_service.runtime import Runtime
from document_service.telemetry import log
from document_service.tokens import Caller

#: What a person or a program met that looked for something that is not theirs, or is not to be had any more.
_STATUSES = (403, 404, 410)

#: Path parameters by the kind of id that they hold; anything else that was typed there is not kept.
_RECORDS = {"document_id": "document", "job_id": "job", "upload_id": "upload", "template_id": "template"}


async def note_request(request: Request, error: ServiceError) -> None:
    """Record a refusal of a request whose caller is known."""
    caller = getattr(request.state, "caller", None)
    if caller is not None:
        await note(
            request.app.state.runtime,
            caller,
            error,
            request_id=request.state.request_id,
            device_id=getattr(request.state, "device_id", None),
            method=request.method,
            route=getattr(request.scope.get("route"), "path", None),
            path_parameters=request.path_params,
        )


async def note(
    runtime: Runtime,
    caller: Caller,
    error: ServiceError,
    *,
    request_id: str,
    device_id: str | None,
    method: str,
    route: str | None,
    path_parameters: Mapping[str, str],
) -> None:
    """Record a refusal in the caller's tenant; 403 always, 404 and 410 where a record was asked for.

    An event that cannot be written is logged: the refusal itself is answered all the same.
    """
    ids = {
        name: value
        for name, kind in _RECORDS.items()
        if (value := path_parameters.get(name)) is not None and identifiers.is_id(kind, value)
    }
    damaged = isinstance(error, ObjectCorrupt | ObjectNotFound)
    if damaged:
        telemetry.objects_damaged.inc()
        log.error("object.damaged", code=error.code, request=request_id, tenant=caller.tenant, **ids)
    elif error.status not in _STATUSES or (error.status != 403 and not ids):
        return
    event = audit.Event(
        "object.damaged" if damaged else "access.denied",
        caller.user,
        outcome="failure",
        device_id=device_id,
        request_id=request_id,
        document_id=ids.get("document_id"),
        job_id=ids.get("job_id"),
        upload_id=ids.get("upload_id"),
        template_id=ids.get("template_id"),
        detail={"code": error.code, "method": method, "route": route},
    )
    try:
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            await audit.record(connection, caller.tenant, event)
    except ServiceError as failure:
        log.warning("audit.refusal-not-recorded", code=failure.code, request=request_id)
