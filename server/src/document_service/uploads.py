"""Uploads: scanned paper on its way in. Nothing of it is readable before a clean verdict (design §7).

State chart:

    receiving ──finalize──▶ scanning ──clean──▶ accepted
                              │  │  └──malware, active content──▶ quarantined ──rescan──▶ scanning
                              │  │                                     └──destroy──▶ failed (DESTROYED)
                              │  └──type, size, checksum, encrypted, unreadable──▶ failed
                              ├──no scanner or encounter──▶ failed (SCANNER_…, FHIR_…) ──finalize──▶ scanning
                              └──every worker was lost over it──▶ failed (SCAN_WORKERS_LOST) ──finalize──▶ scanning

What nobody goes on with for three days, in ``receiving`` or waiting for a finalize, ends as failed (UPLOAD_ABANDONED).
Only a clean verdict of a full scan leads to ``accepted``; no verb here lets a person release a quarantined file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from document_service import access, identifiers
from document_service.access import Subject
from document_service.database import Connection, began_before_a_cut
from document_service.errors import (
    NotFound,
    UploadIncomplete,
    UploadOffsetConflict,
    UploadQuotaExceeded,
    UploadStateConflict,
)
from document_service.tenants import Sealer
from document_service.tokens import Caller

#: How long an upload waits for a scanner that went away after finalize (contract §6).
SCANNER_PATIENCE = timedelta(minutes=10)

#: Bytes that one user may have on the way at a time: ten files of the largest size.
OPEN_BYTES_PER_USER = 250 * 1024 * 1024

#: Files that one user may have on the way at a time, however small: a stack of paper scanned page by page.
OPEN_FILES_PER_USER = 100

#: What one user may begin within a day: an archive's clerk stays below it, and a program that runs away does not.
DAILY_FILES_PER_USER, DAILY_BYTES_PER_USER = 2_000, 10 * 1024**3

#: A transfer that nobody continued for this long is given up and its pieces are deleted.
ABANDONED_AFTER = timedelta(days=3)

#: Pieces are deleted right after the verdict; what is there so much later was left by a process that died.
PIECES_LEFT_AFTER = timedelta(seconds=30)

#: Scans that ended without any answer before no other worker tries the file, and those that ended with the whole
#: service: as for render jobs (`render_jobs.STARTS_LIMIT`, `CUTS_LIMIT`).
WORKERS_LIMIT, SERVICES_LIMIT = 8, 50
WORKERS_LOST = "SCAN_WORKERS_LOST"

_FHIR_CODES = ("FHIR_UNAVAILABLE", "FHIR_REFUSED", "FHIR_INVALID")
#: Failures after which finalize scans the file again; its pieces are kept for that.
WAITING_CODES = ("SCANNER_UNAVAILABLE", "SCANNER_ANSWER_INVALID", *_FHIR_CODES, WORKERS_LOST)


@dataclass(frozen=True, slots=True)
class Upload:
    """One row of ``uploads``; file name and title are sealed in the database and open here."""

    tenant_id: str
    id: str
    status: str
    content_type: str
    category: str
    size: int
    sha256: str
    received: int
    patient_id: str
    encounter_id: str | None
    reason_code: str | None
    reason_title: str | None
    findings: list[str]
    generation: int
    scanning_since: datetime | None
    rescan: bool
    document_id: str | None
    created_at: datetime
    updated_at: datetime
    created_by: str
    facility_ids: list[str] | None
    file_name: str
    title: str

    def visible_to(self, caller: Caller) -> bool:
        """Whoever sent it, and those who look after the quarantine of a facility that it may belong to."""
        if self.created_by == caller.user:
            return True
        facilities = None if self.facility_ids is None else tuple(self.facility_ids)
        return caller.has_role("AUDITOR", "TENANT_ADMIN") and access.permits(
            caller, Subject(self.patient_id, facilities)
        )


_SEALED = ("file_name", "title")
_PLAIN = tuple(name for name in Upload.__dataclass_fields__ if name not in _SEALED)
_COLUMNS = ", ".join((*_PLAIN, "file_name_sealed", "title_sealed"))


def _from_row(row: Any, sealer: Sealer) -> Upload:
    values = {name: row[name] for name in _PLAIN}
    values["findings"] = json.loads(values["findings"])
    for name in _SEALED:
        values[name] = sealer.unseal(row["tenant_id"], f"upload-{name}", row[f"{name}_sealed"]).decode()
    return Upload(**values)


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What the sender says of the file; ``size`` in bytes, ``sha256`` in hex."""

    file_name: str
    content_type: str
    size: int
    sha256: str
    patient_id: str
    encounter_id: str | None
    category: str
    title: str


async def create(connection: Connection, caller: Caller, new: NewUpload, sealer: Sealer) -> Upload:
    """Begin an upload."""
    row = await connection.fetchrow(
        f"""INSERT INTO uploads (tenant_id, id, file_name_sealed, title_sealed, content_type, category, size, sha256,
                patient_id, encounter_id, created_by, facility_ids)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING {_COLUMNS}""",
        caller.tenant,
        identifiers.new("upload"),
        sealer.seal(caller.tenant, "upload-file_name", new.file_name.encode()),
        sealer.seal(caller.tenant, "upload-title", new.title.encode()),
        new.content_type,
        new.category,
        new.size,
        new.sha256,
        new.patient_id,
        new.encounter_id,
        caller.user,
        None if caller.facilities is None else sorted(caller.facilities),
    )
    return _from_row(row, sealer)


async def require_quota(connection: Connection, caller: Caller, size: int) -> None:
    """Whether the caller may begin an upload of ``size`` bytes; one decides for each user at a time, until it commits.

    Raises:
        UploadQuotaExceeded: too much of theirs is on the way, or was begun within a day.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", f"{caller.tenant} {caller.user}")
    row = await connection.fetchrow(
        """SELECT count(*) AS files, coalesce(sum(size), 0)::bigint AS bytes,
                  count(*) FILTER (WHERE status IN ('receiving', 'scanning')) AS open_files,
                  coalesce(sum(size) FILTER (WHERE status IN ('receiving', 'scanning')), 0)::bigint AS open_bytes
           FROM uploads WHERE tenant_id = $1 AND created_by = $2
             AND (created_at > now() - interval '1 day' OR status IN ('receiving', 'scanning'))""",
        caller.tenant,
        caller.user,
    )
    if row["open_files"] >= OPEN_FILES_PER_USER or row["open_bytes"] + size > OPEN_BYTES_PER_USER:
        raise UploadQuotaExceeded()
    if row["files"] >= DAILY_FILES_PER_USER or row["bytes"] + size > DAILY_BYTES_PER_USER:
        raise UploadQuotaExceeded("The limit of a day is reached; go on tomorrow, or tell your IT support.")


async def show(
    connection: Connection, caller: Caller, upload_id: str, sealer: Sealer, *, for_update: bool = False
) -> Upload:
    """Read an upload that the caller may see.

    Raises:
        NotFound: there is none such.
    """
    upload = await load(connection, upload_id, sealer, for_update=for_update)
    if upload is None or not upload.visible_to(caller):
        raise NotFound()
    return upload


async def load(connection: Connection, upload_id: str, sealer: Sealer, *, for_update: bool = False) -> Upload | None:
    """Read an upload of the transaction's tenant, for the worker."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM uploads WHERE id = $1 {'FOR UPDATE' if for_update else ''}", upload_id
    )
    return None if row is None else _from_row(row, sealer)


async def list_page(
    connection: Connection, caller: Caller, status: str | None, after_id: str | None, limit: int, sealer: Sealer
) -> list[Upload]:
    """Uploads that the caller may see, newest first."""
    everybody = caller.has_role("AUDITOR", "TENANT_ADMIN")
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM uploads WHERE tenant_id = $1
              AND (created_by = $3 OR $2 AND ($7::text[] IS NULL OR facility_ids IS NULL OR facility_ids && $7))
              AND ($4::text IS NULL OR status = $4) AND ($5::text IS NULL OR id < $5)
            ORDER BY id DESC LIMIT $6""",
        caller.tenant,
        everybody,
        caller.user,
        status,
        after_id,
        limit,
        access.facilities_of(caller),
    )
    return [upload for upload in (_from_row(row, sealer) for row in rows) if upload.visible_to(caller)]


def check_piece(upload: Upload, offset: int) -> None:
    """Whether a piece may be taken at ``offset``.

    Raises:
        UploadStateConflict: the transfer is over.
        UploadOffsetConflict: another offset is expected.
    """
    if upload.status != "receiving":
        raise UploadStateConflict()
    if offset != upload.received:
        raise UploadOffsetConflict(headers={"Upload-Offset": str(upload.received)})


async def add_piece(connection: Connection, upload: Upload, size: int, object_name: str) -> int:
    """Record a stored piece of an upload that was read for update; the new offset."""
    await connection.execute(
        "INSERT INTO upload_pieces (tenant_id, upload_id, start, size, object_name) VALUES ($1, $2, $3, $4, $5)",
        upload.tenant_id,
        upload.id,
        upload.received,
        size,
        object_name,
    )
    received: int = await connection.fetchval(
        """UPDATE uploads SET received = received + $3, updated_at = now() WHERE tenant_id = $1 AND id = $2
           RETURNING received""",
        upload.tenant_id,
        upload.id,
        size,
    )
    return received


async def pieces(connection: Connection, tenant_id: str, upload_id: str) -> list[str]:
    """The names of an upload's sealed pieces, in order."""
    rows = await connection.fetch(
        "SELECT object_name FROM upload_pieces WHERE tenant_id = $1 AND upload_id = $2 ORDER BY start",
        tenant_id,
        upload_id,
    )
    return [row["object_name"] for row in rows]


def may_finalize(upload: Upload) -> bool:
    """Whether finalize begins a scan; False when one is under way or over, which a repeat is told.

    Raises:
        UploadIncomplete: bytes are missing.
    """
    if upload.status != "receiving":
        return upload.status == "failed" and upload.reason_code in WAITING_CODES
    if upload.received != upload.size:
        raise UploadIncomplete(headers={"Upload-Offset": str(upload.received)})
    return True


async def begin_scan(connection: Connection, upload: Upload, sealer: Sealer, *, rescan: bool = False) -> Upload:
    """Move an upload that was read for update to scanning, with its queue entry in the same transaction."""
    row = await connection.fetchrow(
        f"""UPDATE uploads SET status = 'scanning', generation = generation + 1, scanning_since = now(),
                updated_at = now(), rescan = $3, reason_code = NULL, reason_title = NULL,
                scan_began_at = NULL, workers_lost = 0, services_lost = 0
            WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}""",
        upload.tenant_id,
        upload.id,
        rescan,
    )
    begun = _from_row(row, sealer)
    await connection.execute("SELECT enqueue_scan($1, $2, $3)", begun.tenant_id, begun.id, begun.generation)
    return begun


async def start_scan(connection: Connection, upload_id: str, sealer: Sealer) -> tuple[Upload, bool] | None:
    """Take a scan in hand; None when there is none to do. The flag says that so many were lost that it is not done."""
    cut = began_before_a_cut("scan_began_at")
    row = await connection.fetchrow(
        f"""UPDATE uploads SET scan_began_at = now(),
                workers_lost = workers_lost + (scan_began_at IS NOT NULL AND NOT {cut})::int,
                services_lost = services_lost + (scan_began_at IS NOT NULL AND {cut})::int
            WHERE id = $1 AND status = 'scanning' RETURNING {_COLUMNS}, workers_lost, services_lost""",
        upload_id,
    )
    if row is None:
        return None
    given_up = row["workers_lost"] >= WORKERS_LIMIT or row["services_lost"] >= SERVICES_LIMIT
    return _from_row(row, sealer), given_up


async def answer_scan(connection: Connection, upload: Upload) -> None:
    """Record that the scan in hand was heard of: it goes on later, and its worker is not lost."""
    await connection.execute(
        """UPDATE uploads SET scan_began_at = NULL, workers_lost = 0, services_lost = 0
           WHERE tenant_id = $1 AND id = $2 AND generation = $3""",
        upload.tenant_id,
        upload.id,
        upload.generation,
    )


async def finish(
    connection: Connection,
    upload: Upload,
    status: str,
    *,
    code: str | None = None,
    title: str | None = None,
    findings: tuple[str, ...] = (),
    document_id: str | None = None,
) -> bool:
    """Record the verdict of the scan that ``upload`` was loaded for; False when another scan has done so."""
    result = await connection.execute(
        """UPDATE uploads SET status = $4, reason_code = $5, reason_title = $6, findings = $7, document_id = $8,
               updated_at = now()
           WHERE tenant_id = $1 AND id = $2 AND generation = $3 AND status = 'scanning'""",
        upload.tenant_id,
        upload.id,
        upload.generation,
        status,
        code,
        title,
        json.dumps(findings),
        document_id,
    )
    return bool(result == "UPDATE 1")


async def list_abandoned(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Tenant and id of uploads that nobody went on with for ``ABANDONED_AFTER``. System role."""
    rows = await connection.fetch(
        """SELECT tenant_id, id FROM document.uploads WHERE updated_at < now() - $1::interval
             AND (status = 'receiving' OR status = 'failed' AND reason_code = ANY ($2) AND EXISTS (
               SELECT FROM document.upload_pieces p WHERE p.tenant_id = uploads.tenant_id AND p.upload_id = uploads.id))
           ORDER BY updated_at DESC LIMIT $3""",
        ABANDONED_AFTER,
        list(WAITING_CODES),
        limit,
    )
    return [(row["tenant_id"], row["id"]) for row in rows]


async def list_leftover(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Tenant and id of decided uploads whose pieces were not deleted, for whoever did that died. System role."""
    rows = await connection.fetch(
        """SELECT u.tenant_id, u.id FROM document.uploads u
           WHERE EXISTS (SELECT FROM document.upload_pieces p WHERE p.tenant_id = u.tenant_id AND p.upload_id = u.id)
             AND u.updated_at < now() - $1::interval
             AND (u.status = 'accepted' OR u.status = 'failed' AND u.reason_code <> ALL ($2)) LIMIT $3""",
        PIECES_LEFT_AFTER,
        list(WAITING_CODES),
        limit,
    )
    return [(row["tenant_id"], row["id"]) for row in rows]


async def abandon(connection: Connection, upload: Upload) -> None:
    """Record that an upload, read for update, was given up; its pieces go after the commit."""
    await connection.execute(
        """UPDATE uploads SET status = 'failed', reason_code = 'UPLOAD_ABANDONED', updated_at = now(),
               reason_title = 'Nobody went on with the upload for three days; send the file again.'
           WHERE tenant_id = $1 AND id = $2""",
        upload.tenant_id,
        upload.id,
    )


async def destroy(connection: Connection, upload: Upload) -> None:
    """Record that a quarantined file is to be deleted; its pieces go after the commit.

    Raises:
        UploadStateConflict: it is not in quarantine.
    """
    if upload.status != "quarantined":
        raise UploadStateConflict("Only a quarantined upload is destroyed.")
    await connection.execute(
        """UPDATE uploads SET status = 'failed', reason_code = 'DESTROYED', updated_at = now(),
               reason_title = 'The quarantined file was destroyed by an administrator.'
           WHERE tenant_id = $1 AND id = $2""",
        upload.tenant_id,
        upload.id,
    )


async def forget_pieces(connection: Connection, tenant_id: str, upload_id: str) -> None:
    """Forget the pieces of an upload whose objects were deleted."""
    await connection.execute("DELETE FROM upload_pieces WHERE tenant_id = $1 AND upload_id = $2", tenant_id, upload_id)
