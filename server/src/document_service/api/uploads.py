"""Routes of uploads: resumable, then scanned; nothing is readable before a clean verdict (contract §2, §6)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import JSONResponse

from document_service import audit, identifiers, retention, upload_scanning, uploads
from document_service.api import paging, shapes
from document_service.api.callers import Clinician, Opened, TenantAdmin, UploadReader
from document_service.api.exact import ExactRoute
from document_service.database import tenant_transaction
from document_service.errors import (
    ChecksumMismatch,
    FileTooLarge,
    FileTypeRefused,
    Forbidden,
    InvalidRequest,
    Problem,
    ScannerUnavailable,
    UnsupportedMediaType,
    UploadStateConflict,
)
from document_service.runtime import Runtime
from document_service.scanner import MAX_BYTES
from document_service.tokens import AUDITOR, TENANT_ADMIN
from document_service.uploads import NewUpload, Upload

router = APIRouter(prefix="/v1/documents/uploads", tags=["uploads"], route_class=ExactRoute)

_TYPES = {
    "application/pdf": (".pdf",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/png": (".png",),
    "image/tiff": (".tif", ".tiff"),
}


#: A repeat of finalize does nothing more than the first, so the upload's own id is all the key it needs.
_FINALIZE_KEY = "May be sent; a repeat is recognised by the upload's id."


async def _require_scanner(runtime: Runtime) -> None:
    """No scanner, no upload: nothing is taken that could not be judged.

    Raises:
        ScannerUnavailable: none is configured, or it does not answer.
    """
    if runtime.scanner is None or not (await runtime.scanner.state()).available:
        raise ScannerUnavailable()


def _shown(upload: Upload) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": upload.id,
        "status": upload.status,
        "offset": upload.received,
        "size": upload.size,
        "patientId": upload.patient_id,
        "encounterId": upload.encounter_id,
        "createdAt": shapes.instant(upload.created_at),
        "updatedAt": shapes.instant(upload.updated_at),
    }
    if upload.document_id is not None:
        body["documentId"] = upload.document_id
    if upload.reason_code is not None:
        body["reason"] = {"code": upload.reason_code, "title": upload.reason_title}
    return body


@router.post("", status_code=201, summary="Begin an upload")
async def create(body: shapes.UploadCreate, caller: Clinician, runtime: Opened) -> Response:
    if body.size > MAX_BYTES:
        raise FileTooLarge()
    if not body.file_name.lower().endswith(_TYPES.get(body.content_type, ())):
        known = _TYPES.get(body.content_type)
        remedy = f"The file name must end in {' or '.join(known)}." if known else f"Send one of {', '.join(_TYPES)}."
        pointer = "/fileName" if known else "/contentType"
        raise FileTypeRefused(errors=(Problem(pointer, "FILE_TYPE_MISMATCH", remedy),))
    await _require_scanner(runtime)
    new = NewUpload(**body.model_dump())
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        await uploads.require_quota(connection, caller, body.size)
        upload = await uploads.create(connection, caller, new, runtime.keys)
    return JSONResponse(_shown(upload), 201, {"Location": f"/v1/documents/uploads/{upload.id}", "Upload-Offset": "0"})


@router.get("", summary="Uploads: mine, or for auditors and administrators all, such as the quarantine")
async def list_uploads(
    caller: UploadReader,
    runtime: Opened,
    status: Annotated[str | None, Query(pattern="^(receiving|scanning|accepted|quarantined|failed)$")] = None,
    cursor: paging.Cursor = None,
    limit: paging.Limit = paging.DEFAULT_LIMIT,
) -> Response:
    after = paging.decode(cursor)
    if status == "quarantined" and not caller.has_role(AUDITOR, TENANT_ADMIN):
        raise Forbidden(
            "The quarantine is read by AUDITOR or TENANT_ADMIN; your own uploads are listed without status."
        )
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        rows = await uploads.list_page(connection, caller, status, after, limit + 1, runtime.keys)
    return JSONResponse(paging.page(rows, limit, _shown))


@router.head("/{upload_id}", summary="How far an upload has come")
async def offset(upload_id: str, caller: UploadReader, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        upload = await uploads.show(connection, caller, upload_id, runtime.keys)
    return Response(headers={"Upload-Offset": str(upload.received), "Upload-Length": str(upload.size)})


@router.get("/{upload_id}", summary="One upload: its state and, when there is one, its document or reason")
async def show(upload_id: str, caller: UploadReader, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        upload = await uploads.show(connection, caller, upload_id, runtime.keys)
    return JSONResponse(_shown(upload), headers={"Upload-Offset": str(upload.received)})


@router.patch(
    "/{upload_id}",
    status_code=204,
    summary="Send a piece",
    openapi_extra={"requestBody": {"content": {"application/offset+octet-stream": {}}, "required": True}},
)
async def piece(
    upload_id: str,
    caller: Clinician,
    runtime: Opened,
    request: Request,
    upload_offset: Annotated[int, Header(alias="Upload-Offset", ge=0)],
    upload_checksum: Annotated[str | None, Header(alias="Upload-Checksum", max_length=200)] = None,
) -> Response:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/offset+octet-stream":
        raise UnsupportedMediaType("Send pieces as application/offset+octet-stream.")
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        upload = await uploads.show(connection, caller, upload_id, runtime.keys)
        uploads.check_piece(upload, upload_offset)
    content = await request.body()
    if not content:
        return Response(status_code=204, headers={"Upload-Offset": str(upload.received)})
    if upload_offset + len(content) > upload.size:
        raise FileTooLarge("The piece goes beyond the size that was announced.")
    _check_checksum(upload_checksum, content)
    stored = await runtime.store.put(caller.tenant, f"uploads/{upload.id}/{identifiers.new('object')}", content)
    try:
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            upload = await uploads.show(connection, caller, upload_id, runtime.keys, for_update=True)
            uploads.check_piece(upload, upload_offset)
            received = await uploads.add_piece(connection, upload, len(content), stored.name)
    except UploadStateConflict:
        await runtime.store.delete(caller.tenant, stored.name)
        raise
    return Response(status_code=204, headers={"Upload-Offset": str(received)})


def _check_checksum(header: str | None, content: bytes) -> None:
    if header is None:
        return
    algorithm, _, value = header.partition(" ")
    try:
        expected = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        expected = b""
    if algorithm.lower() != "sha256" or len(expected) != 32:
        problem = Problem("#header/Upload-Checksum", "FORMAT", "Send sha256, a space and the digest in base 64.")
        raise InvalidRequest(errors=(problem,))
    if hashlib.sha256(content).digest() != expected:
        raise ChecksumMismatch()


@router.post("/{upload_id}/finalize", status_code=202, summary="All bytes are there: scan")
async def finalize(
    upload_id: str,
    caller: Clinician,
    runtime: Opened,
    _: Annotated[str | None, Header(alias="Idempotency-Key", max_length=200, description=_FINALIZE_KEY)] = None,
) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        begin = uploads.may_finalize(await uploads.show(connection, caller, upload_id, runtime.keys))
    if begin:
        await _require_scanner(runtime)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        upload = await uploads.show(connection, caller, upload_id, runtime.keys, for_update=True)
        if uploads.may_finalize(upload):
            upload = await uploads.begin_scan(connection, upload, runtime.keys)
    return JSONResponse(_shown(upload), 202)


@router.post("/{upload_id}/rescan", status_code=202, summary="Scan a quarantined file again, in full")
async def rescan(upload_id: str, caller: TenantAdmin, runtime: Opened) -> Response:
    await _require_scanner(runtime)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        upload = await uploads.show(connection, caller, upload_id, runtime.keys, for_update=True)
        if upload.status != "quarantined":
            raise UploadStateConflict("Only a quarantined upload is scanned again.")
        upload = await uploads.begin_scan(connection, upload, runtime.keys, rescan=True)
        await audit.record(connection, caller.tenant, audit.Event("upload.rescan", caller.user, upload_id=upload.id))
    return JSONResponse(_shown(upload), 202)


@router.post("/{upload_id}/destroy", summary="Delete a quarantined file for good")
async def destroy(upload_id: str, body: shapes.ReasonRequest, caller: TenantAdmin, runtime: Opened) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        upload = await uploads.show(connection, caller, upload_id, runtime.keys, for_update=True)
        await retention.require_free(connection, caller.tenant, upload.patient_id)
        await uploads.destroy(connection, upload)
        sealed = runtime.keys.seal(caller.tenant, "audit-reason", body.reason.encode())
        await audit.record(
            connection,
            caller.tenant,
            audit.Event(
                "upload.destroy",
                caller.user,
                upload_id=upload.id,
                patient_id=upload.patient_id,
                detail={"reasonSealed": base64.b64encode(sealed).decode()},
            ),
        )
    await upload_scanning.delete_pieces(runtime, upload)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        upload = await uploads.show(connection, caller, upload_id, runtime.keys)
    return JSONResponse(_shown(upload))
