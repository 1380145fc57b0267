"""The way of an upload from its last byte to its verdict, and of an accepted one into a document."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from document_service import audit, documents, identifiers, numbering, patient_access, tenants, uploads
from document_service.access import Subject
from document_service.database import Connection, system_transaction, tenant_transaction
from document_service.errors import (
    ConversionFailed,
    FhirUnavailable,
    KeyStoreUnusable,
    ObjectCorrupt,
    ObjectNotFound,
    ScannerUnavailable,
    ServiceError,
    TenantKeyMissing,
)
from document_service.queue import TryAgain
from document_service.runtime import Runtime
from document_service.scanner import Verdict
from document_service.telemetry import log
from document_service.tokens import Caller
from document_service.uploads import Upload

#: While a needed part is away, a scan is tried again this often; finalize is answered long before.
AGAIN_AFTER = timedelta(seconds=5)

#: Abandoned uploads are given up so many at a time; the next round takes the rest.
_AT_ONCE = 100

_WORKERS_LOST_TITLE = (
    "Every process that examined this file ended in the middle of it; tell the operator, then finalize again."
)
_LOST_TITLE = "The server lost a part of the file that it had received; send the file again."

#: The key was there when the scan began: its folder went away, and a received file does not go for that.
_KEY_AWAY = (KeyStoreUnusable, TenantKeyMissing)


async def scan(runtime: Runtime, tenant_id: str, upload_id: str) -> None:
    """Scan one upload and record the verdict.

    Raises:
        TryAgain: a part that is needed is away, and for scanner and FHIR server the upload's patience is not over.
    """
    if not runtime.keys.has_tenant(tenant_id):
        # Nothing of it can be opened: it was destroyed, or housekeeping asks again until its key is back.
        return
    async with tenant_transaction(runtime.database.app, tenant_id) as connection:
        started = await uploads.start_scan(connection, upload_id, runtime.keys)
        names = await uploads.pieces(connection, tenant_id, upload_id)
    if started is None:
        return
    upload, given_up = started
    if given_up:
        log.error("upload.workers-lost", upload=upload.id)
        await _refuse(
            runtime, upload, "quarantined" if upload.rescan else "failed", uploads.WORKERS_LOST, _WORKERS_LOST_TITLE
        )
        return
    try:
        content = b"".join([await _read(runtime, tenant_id, name) for name in names])
        await _judge(runtime, upload, content)
    except (ObjectNotFound, ObjectCorrupt) as lost:
        # A restored database may name pieces that were deleted since, and no waiting brings bytes back.
        log.warning("upload.lost", upload=upload.id, code=lost.code)
        await _refuse(runtime, upload, "quarantined" if upload.rescan else "failed", "UPLOAD_LOST", _LOST_TITLE)
    except (ScannerUnavailable, FhirUnavailable) as away:
        assert upload.scanning_since is not None
        if datetime.now(UTC) - upload.scanning_since < uploads.SCANNER_PATIENCE:
            await _go_on_later(runtime, upload)
        # A file in quarantine stays there when it could not be scanned again.
        await _refuse(runtime, upload, "quarantined" if upload.rescan else "failed", away.code, away.title)
    except ServiceError as away:
        if not (away.retryable or isinstance(away, _KEY_AWAY)):
            raise
        await _go_on_later(runtime, upload)


async def _go_on_later(runtime: Runtime, upload: Upload) -> NoReturn:
    async with tenant_transaction(runtime.database.app, upload.tenant_id) as connection:
        await uploads.answer_scan(connection, upload)
    raise TryAgain(AGAIN_AFTER)


async def _read(runtime: Runtime, tenant_id: str, name: str) -> bytes:
    return b"".join([piece async for piece in runtime.store.read(tenant_id, name)])


async def _judge(runtime: Runtime, upload: Upload, content: bytes) -> None:
    if len(content) != upload.size or hashlib.sha256(content).hexdigest() != upload.sha256:
        title = "The file that arrived differs from its checksum; send it again."
        await _refuse(runtime, upload, "quarantined" if upload.rescan else "failed", "CHECKSUM_MISMATCH", title)
        return
    if runtime.scanner is None:
        raise ScannerUnavailable
    verdict = await runtime.scanner.scan(content, upload.content_type, upload.file_name)
    if verdict.state != "accepted":
        # What was in quarantine leaves it by a clean verdict only, whatever else a re-scan may say.
        state = "quarantined" if upload.rescan else verdict.state
        await _refuse(runtime, upload, state, verdict.code, verdict.title, verdict.findings)
        return
    try:
        subject = await _subject_of(runtime, upload)
        await _accept(runtime, upload, content, verdict, subject)
    except (ScannerUnavailable, FhirUnavailable):
        raise
    except ConversionFailed as failed:
        await _refuse(runtime, upload, "quarantined" if upload.rescan else "failed", failed.code, failed.title)
    except ServiceError as refused:
        if refused.retryable or isinstance(refused, _KEY_AWAY):
            raise
        await _refuse(runtime, upload, "quarantined" if upload.rescan else "failed", refused.code, refused.title)


async def _subject_of(runtime: Runtime, upload: Upload) -> Subject:
    """Whose the upload is, by its encounter, which must be this patient's and the sender's to see.

    Without an encounter nothing is read: the document is of the whole tenant.
    """
    unread = Subject(upload.patient_id, None)
    if upload.encounter_id is None:
        return unread
    async with tenant_transaction(runtime.database.app, upload.tenant_id) as connection:
        tenant = await tenants.show(connection, upload.tenant_id)
    if tenant.fhir_url is None:
        return unread
    snapshot = await runtime.fhir.read(
        tenant.fhir_url, tenant.fhir_token(runtime.keys), {}, upload.patient_id, upload.encounter_id
    )
    facilities = None if upload.facility_ids is None else frozenset(upload.facility_ids)
    return patient_access.require(Caller(upload.tenant_id, upload.created_by, frozenset(), facilities), snapshot, {})


async def _accept(runtime: Runtime, upload: Upload, content: bytes, verdict: Verdict, subject: Subject) -> None:
    assert runtime.scanner is not None
    assert verdict.kind is not None
    folder = datetime.now(UTC).strftime("%Y/%m")
    shown, pages, original_name = content, verdict.pages, None
    if verdict.kind != "pdf":
        shown, pages = await runtime.scanner.image_to_pdf(content)
        original = await runtime.store.put(upload.tenant_id, f"{folder}/{identifiers.new('object')}", content)
        original_name = original.name
    stored = await runtime.store.put(upload.tenant_id, f"{folder}/{identifiers.new('object')}", shown)
    document_id = identifiers.new("document")
    async with tenant_transaction(runtime.database.app, upload.tenant_id) as connection:
        # Whoever comes second takes no number: each that is given belongs to a document.
        if not await uploads.finish(connection, upload, "accepted", document_id=document_id):
            return
        document = documents.Document(
            tenant_id=upload.tenant_id,
            id=document_id,
            number=await numbering.next_number(connection, upload.tenant_id),
            kind="uploaded",
            status="current",
            category=upload.category,
            title=upload.title,
            patient_id=upload.patient_id,
            encounter_id=upload.encounter_id,
            facility_id=subject.facility_ids[0] if subject.facility_ids else None,
            content_type="application/pdf",
            size=stored.size,
            sha256=stored.sha256,
            original_sha256=None if original_name is None else upload.sha256,
            pages=pages,
            template_tenant_id=None,
            template_version_id=None,
            render_job_id=None,
            upload_id=upload.id,
            requested_at=None,
            rendered_at=None,
            data_as_of=None,
            locale=None,
            supersedes=None,
            superseded_by=None,
            withdrawn_at=None,
            object_name=stored.name,
            snapshot_name=None,
            original_name=original_name,
            engine={},
            provenance=[],
            verify_code=None,
            issuer=None,
            created_at=datetime.now(UTC),
            created_by=upload.created_by,
            security_label=subject.security_label,
        )
        await documents.insert(connection, document, runtime.keys)
        action = "upload.release" if upload.rescan else "upload.accept"
        await audit.record(connection, upload.tenant_id, _event(upload, action, document_id=document.id))
    await delete_pieces(runtime, upload)


async def _refuse(
    runtime: Runtime,
    upload: Upload,
    status: str,
    code: str | None,
    title: str | None,
    findings: tuple[str, ...] = (),
) -> None:
    async with tenant_transaction(runtime.database.app, upload.tenant_id) as connection:
        if not await uploads.finish(connection, upload, status, code=code, title=title, findings=findings):
            return
        action = "upload.quarantine" if status == "quarantined" else "upload.fail"
        await audit.record(connection, upload.tenant_id, _event(upload, action, code=code, findings=list(findings)))
    log.info("upload.refused", upload=upload.id, status=status, code=code)
    if status == "failed" and code not in uploads.WAITING_CODES:
        # A file that waits for a scanner keeps its pieces, so that finalize needs no resending.
        await delete_pieces(runtime, upload)


async def give_up_abandoned(runtime: Runtime) -> int:
    """End the uploads that nobody went on with and delete what was received of them; how many there were."""
    async with system_transaction(runtime.database) as connection:
        found = await uploads.list_abandoned(connection, _AT_ONCE)
    ended = 0
    for tenant_id, upload_id in found:
        if not _has_key(runtime, tenant_id):
            continue
        try:
            ended += await _give_up(runtime, tenant_id, upload_id)
        except (ObjectCorrupt, KeyStoreUnusable, TenantKeyMissing) as unread:
            # What its tenant's key does not open keeps nobody else's uploads here.
            log.warning("upload.not-abandoned", upload=upload_id, code=unread.code)
    return ended


async def _give_up(runtime: Runtime, tenant_id: str, upload_id: str) -> bool:
    async with tenant_transaction(runtime.database.app, tenant_id) as connection:
        upload = await uploads.load(connection, upload_id, runtime.keys, for_update=True)
        if upload is None or datetime.now(UTC) - upload.updated_at < uploads.ABANDONED_AFTER:
            return False
        await uploads.abandon(connection, upload)
        await audit.record(connection, tenant_id, _event(upload, "upload.fail", code="UPLOAD_ABANDONED"))
    await delete_pieces(runtime, upload)
    return True


def _has_key(runtime: Runtime, tenant_id: str) -> bool:
    try:
        return runtime.keys.has_tenant(tenant_id)
    except KeyStoreUnusable:
        # One tenant's key file that cannot be read keeps nobody else waiting.
        return False


async def delete_leftovers(runtime: Runtime) -> int:
    """Delete the pieces of decided uploads that a process which died did not delete; of how many uploads."""
    async with system_transaction(runtime.database) as connection:
        found = await uploads.list_leftover(connection, _AT_ONCE)
    for tenant_id, upload_id in found:
        async with tenant_transaction(runtime.database.app, tenant_id) as connection:
            await _delete_pieces(runtime, connection, tenant_id, upload_id)
    return len(found)


async def delete_pieces(runtime: Runtime, upload: Upload) -> None:
    """Delete the sealed pieces of an upload that is decided."""
    async with tenant_transaction(runtime.database.app, upload.tenant_id) as connection:
        await _delete_pieces(runtime, connection, upload.tenant_id, upload.id)


async def _delete_pieces(runtime: Runtime, connection: Connection, tenant_id: str, upload_id: str) -> None:
    for name in await uploads.pieces(connection, tenant_id, upload_id):
        await runtime.store.delete(tenant_id, name)
    await uploads.forget_pieces(connection, tenant_id, upload_id)


def _event(upload: Upload, action: str, *, document_id: str | None = None, **detail: object) -> audit.Event:
    return audit.Event(
        action,
        upload.created_by,
        outcome="success" if action in ("upload.accept", "upload.release") else "failure",
        document_id=document_id,
        upload_id=upload.id,
        patient_id=upload.patient_id,
        detail=detail,
    )
