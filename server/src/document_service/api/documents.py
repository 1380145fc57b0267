"""Routes of documents: find, show, link, and the bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import JSONResponse, StreamingResponse

from document_service import audit, documents, identifiers, provenance
from document_service.api import paging, refusals, shapes, trail
from document_service.api.callers import Clinician, Opened
from document_service.api.exact import ExactRoute
from document_service.database import tenant_transaction
from document_service.documents import Document, Search
from document_service.errors import NotFound, ObjectCorrupt, RangeNotSatisfiable, ServiceError, SignatureInvalid
from document_service.runtime import Runtime
from document_service.signing import SignedClaim
from document_service.tokens import Caller

router = APIRouter(prefix="/v1/documents", tags=["documents"], route_class=ExactRoute)

#: Up to this size the bytes are opened at once, so that an integrity error is a clean refusal and not a cut.
WHOLE_LIMIT = 4 * 1024 * 1024

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@router.get("", summary="Documents of a patient, newest first")
async def search(
    caller: Clinician,
    runtime: Opened,
    request: Request,
    patient_id: Annotated[shapes.FhirId, Query(alias="patientId", max_length=64)],
    encounter_id: Annotated[str | None, Query(alias="encounterId", max_length=64)] = None,
    category: shapes.Category | None = None,
    status: Annotated[str | None, Query(pattern="^(current|superseded|entered-in-error)$")] = None,
    since: shapes.Instant | None = None,
    until: shapes.Instant | None = None,
    cursor: paging.Cursor = None,
    limit: paging.Limit = paging.DEFAULT_LIMIT,
) -> Response:
    wanted = Search(patient_id, encounter_id, category, status, since, until)
    after = paging.decode(cursor)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        rows = await documents.search(connection, caller, wanted, after, limit + 1, runtime.keys)
        # Each page, for a cursor is nothing that only a first page can give.
        asked = trail.event(request, caller, "document.search", patient_id=patient_id)
        await audit.record(connection, caller.tenant, asked)
    return JSONResponse(paging.page(rows, limit, shapes.document))


@router.get("/{document_id}", response_model=shapes.DocumentShape, summary="One document's metadata")
async def show(document_id: str, caller: Clinician, runtime: Opened, request: Request) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        document = await documents.show(connection, caller, document_id, runtime.keys)
        await audit.record(connection, caller.tenant, trail.event(request, caller, "document.view", document))
    if shapes.etag_matches(request.headers.get("if-none-match"), document.etag):
        return Response(status_code=304, headers={"ETag": document.etag})
    return JSONResponse(shapes.document(document), headers={"ETag": document.etag})


@router.get("/{document_id}/provenance", summary="Which resources it was made from, as FHIR Provenance")
async def show_provenance(document_id: str, caller: Clinician, runtime: Opened, request: Request) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        document = await documents.show(connection, caller, document_id, runtime.keys)
        await audit.record(connection, caller.tenant, trail.event(request, caller, "document.view", document))
    return JSONResponse(provenance.provenance(document), media_type=provenance.MEDIA_TYPE)


@router.post("/{document_id}/download-url", summary="A short-lived signed URL")
async def download_url(
    document_id: str,
    caller: Clinician,
    runtime: Opened,
    request: Request,
    disposition: Annotated[str, Query(pattern="^(attachment|inline)$")] = "attachment",
) -> Response:
    ttl = int(runtime.settings.signed_url_ttl.total_seconds())
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        document = await documents.show_readable(connection, caller, document_id, runtime.keys)
        await audit.record(
            connection,
            caller.tenant,
            trail.event(request, caller, "document.download-url", document),
        )
    query = runtime.signer.sign(caller.tenant, document.id, disposition, ttl)  # type: ignore[arg-type]
    base = (runtime.settings.public_url or "").rstrip("/")
    expires = runtime.signer.verify(document.id, query).expires
    return JSONResponse(
        {
            "url": f"{base}/v1/documents/{document.id}/content?{query}",
            "expiresAt": shapes.instant(shapes.from_epoch_seconds(expires)),
        }
    )


@router.api_route(
    "/{document_id}/content",
    methods=["GET", "HEAD"],
    summary="The bytes, by signed URL",
    responses={206: {"description": "A range."}, 416: {"description": "No such range."}},
)
async def content(
    document_id: str,
    request: Request,
    runtime: Opened,
    range_header: Annotated[str | None, Header(alias="Range", max_length=200)] = None,
    if_range: Annotated[str | None, Header(alias="If-Range", max_length=200)] = None,
) -> Response:
    if not identifiers.is_id("document", document_id):
        raise SignatureInvalid()
    claim = runtime.signer.verify(document_id, request.url.query)
    # From here on the request speaks for a tenant, and its refusal goes into that tenant's trail.
    holder = request.state.caller = Caller(claim.tenant, "signed-url", frozenset(), None)
    async with tenant_transaction(runtime.database.app, claim.tenant) as connection:
        try:
            document = await documents.show_readable(connection, holder, document_id, runtime.keys)
        except NotFound:
            # No such link was ever given out: it answers like every other that we did not make.
            raise SignatureInvalid() from None
        if request.method == "GET":
            await audit.record(
                connection,
                claim.tenant,
                trail.event(
                    request,
                    holder,
                    "document.download",
                    document,
                    detail={"range": range_header} if range_header else {},
                ),
            )
    headers = _content_headers(document, claim)
    if shapes.etag_matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    start, end, status = 0, document.size, 200
    # Range is defined for GET alone (RFC 9110 §14.2).
    wanted = range_header if request.method == "GET" else None
    if wanted is not None and (if_range is None or if_range == headers["ETag"]):
        chosen = _chosen_range(wanted, document.size)
        if chosen == "unsatisfiable":
            raise RangeNotSatisfiable(headers={"ETag": headers["ETag"], "Content-Range": f"bytes */{document.size}"})
        if not isinstance(chosen, str):
            (start, end), status = chosen, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{document.size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=document.content_type)
    return await _bytes_of(request, document, start, end, status, headers)


def _content_headers(document: Document, claim: SignedClaim) -> dict[str, str]:
    # The file name is the document's number: a title may name a condition, and a file name travels far.
    return {
        "ETag": f'"{document.sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
        "Content-Disposition": f'{claim.disposition}; filename="{document.number}.pdf"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Referrer-Policy": "no-referrer",
    }


def _chosen_range(header: str, size: int) -> tuple[int, int] | str:
    """The one range of a Range header; "whole" for what may be ignored, "unsatisfiable" for a 416 (RFC 9110 §14)."""
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return "whole"
    if match[1] == "":
        length = min(int(match[2]), size)
        return (size - length, size) if length else "unsatisfiable"
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return "whole"
    return (start, end) if start < size else "unsatisfiable"


async def _bytes_of(
    request: Request, document: Document, start: int, end: int, status: int, headers: dict[str, str]
) -> Response:
    runtime: Runtime = request.app.state.runtime
    pieces: AsyncIterator[bytes] = runtime.store.read(document.tenant_id, document.object_name, start, end)
    if end - start > WHOLE_LIMIT:
        return StreamingResponse(_watched(request, pieces), status, headers, document.content_type)
    body = b"".join([piece async for piece in pieces])
    if len(body) != end - start:
        raise ObjectCorrupt()
    return Response(body, status, headers, document.content_type)


async def _watched(request: Request, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces; damage found after the answer began cuts it off, and is in the trail like any other."""
    try:
        async for piece in pieces:
            yield piece
    except ServiceError as damage:
        await refusals.note_request(request, damage)
        raise
