"""Routes that take a document back: replaced by another, or entered in error (contract §2)."""

from __future__ import annotations

from typing import Annotated

import rfc8785
from fastapi import APIRouter, Header, Request, Response
from starlette.responses import JSONResponse

from document_service import audit, documents, idempotency
from document_service.api import shapes, trail
from document_service.api.callers import Clinician, Opened
from document_service.api.exact import ExactRoute
from document_service.database import Connection, tenant_transaction
from document_service.documents import Document
from document_service.errors import IdempotencyKeyRequired
from document_service.runtime import Runtime
from document_service.tokens import Caller

router = APIRouter(prefix="/v1/documents", tags=["documents"], route_class=ExactRoute)

KeyHeader = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


@router.post("/{document_id}/supersede", response_model=shapes.DocumentShape, summary="Replace by another document")
async def supersede(
    document_id: str,
    body: shapes.SupersedeRequest,
    caller: Clinician,
    runtime: Opened,
    request: Request,
    key: KeyHeader = None,
) -> Response:
    content = [body.by_document_id, body.reason]
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        if not await _claim(runtime, connection, caller, "document.supersede", key, document_id, content):
            return _answer(await documents.show(connection, caller, document_id, runtime.keys), replayed=True)
        # One order for all: two requests that name the same pair the other way round must not wait for each other.
        found = {
            wanted: await documents.show(connection, caller, wanted, runtime.keys, for_update=True)
            for wanted in sorted({document_id, body.by_document_id})
        }
        old, new = await documents.supersede(
            connection, found[document_id], found[body.by_document_id], body.reason, runtime.keys
        )
        detail = {"byDocumentId": new.id, **audit.sealed_reason(runtime.keys.seal, caller.tenant, body.reason)}
        await audit.record(
            connection, caller.tenant, trail.event(request, caller, "document.supersede", old, detail=detail)
        )
    return _answer(old)


@router.post("/{document_id}/void", response_model=shapes.DocumentShape, summary="Mark as entered in error")
async def void(
    document_id: str,
    body: shapes.ReasonRequest,
    caller: Clinician,
    runtime: Opened,
    request: Request,
    key: KeyHeader = None,
) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        if not await _claim(runtime, connection, caller, "document.void", key, document_id, [body.reason]):
            return _answer(await documents.show(connection, caller, document_id, runtime.keys), replayed=True)
        document = await documents.show(connection, caller, document_id, runtime.keys, for_update=True)
        document = await documents.void(connection, document, body.reason, runtime.keys)
        detail = audit.sealed_reason(runtime.keys.seal, caller.tenant, body.reason)
        await audit.record(
            connection, caller.tenant, trail.event(request, caller, "document.void", document, detail=detail)
        )
    return _answer(document)


async def _claim(
    runtime: Runtime,
    connection: Connection,
    caller: Caller,
    action: str,
    key: str | None,
    document_id: str,
    content: list[str],
) -> bool:
    if not key:
        raise IdempotencyKeyRequired()
    # A MAC and not a plain hash: the reason is free text, and guesses at it must not be checkable in a dump.
    fingerprint = runtime.keys.mac(caller.tenant, "action-fingerprint", rfc8785.dumps([document_id, *content]))
    return await idempotency.claim(connection, caller.tenant, action, key, document_id, fingerprint)


def _answer(document: Document, *, replayed: bool = False) -> Response:
    headers = {"ETag": document.etag}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(shapes.document(document), headers=headers)
