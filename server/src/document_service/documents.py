"""Documents: immutable files with their metadata. The bytes are in the object store; a row says which count.

State chart (bytes never change; a document can only be taken back):

    current ──supersede──▶ superseded
       └──void──▶ entered-in-error

Any of them may be purged when its time of keeping is over: the bytes go, the row stays and says so (``retention``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from document_service import access, changes
from document_service.database import Connection
from document_service.errors import (
    DocumentPatientDiffers,
    DocumentStateConflict,
    DocumentWithdrawn,
    NotFound,
)
from document_service.tenants import Sealer
from document_service.tokens import Caller


@dataclass(frozen=True, slots=True)
class Document:
    """One row of ``documents``; the title is sealed in the database and open here."""

    tenant_id: str
    id: str
    number: str
    kind: str
    status: str
    category: str
    title: str
    patient_id: str
    encounter_id: str | None
    facility_id: str | None
    content_type: str
    size: int
    sha256: str
    original_sha256: str | None
    pages: int | None
    template_tenant_id: str | None
    template_version_id: str | None
    render_job_id: str | None
    upload_id: str | None
    requested_at: datetime | None
    rendered_at: datetime | None
    data_as_of: datetime | None
    locale: str | None
    supersedes: str | None
    superseded_by: str | None
    withdrawn_at: datetime | None
    object_name: str
    snapshot_name: str | None
    original_name: str | None
    engine: dict[str, Any]
    provenance: list[dict[str, Any]]
    verify_code: str | None
    issuer: str | None
    created_at: datetime
    created_by: str
    security_label: str | None = None
    retention_until: datetime | None = None
    purged_at: datetime | None = None

    @property
    def subject(self) -> access.Subject:
        """What the access rule is asked about."""
        facilities = None if self.facility_id is None else (self.facility_id,)
        return access.Subject(self.patient_id, facilities, self.security_label)

    @property
    def etag(self) -> str:
        """The entity tag of the metadata; the bytes' own tag is their SHA-256."""
        replaced = f".{self.supersedes}" if self.supersedes else ""
        return f'"{self.id}.{self.status}{replaced}{".purged" if self.purged_at else ""}"'


_PLAIN = tuple(name for name in Document.__dataclass_fields__ if name != "title")
_COLUMNS = ", ".join((*_PLAIN, "title_sealed"))

#: Puts a new document into the feed of those who may see it, in the statement that inserts it.
_ANNOUNCE = changes.recorded_from(
    "document", "'document'", "id", "CASE WHEN facility_id IS NOT NULL THEN ARRAY[facility_id] END"
)


def _from_row(row: Any, sealer: Sealer) -> Document:
    values = {name: row[name] for name in _PLAIN}
    values["engine"] = json.loads(values["engine"])
    values["provenance"] = json.loads(values["provenance"])
    title = sealer.unseal(row["tenant_id"], "document-title", row["title_sealed"]).decode()
    return Document(title=title, **values)


async def insert(connection: Connection, document: Document, sealer: Sealer) -> bool:
    """Record a document and announce it; False when its job or upload has one already (that one counts)."""
    values: dict[str, Any] = {name: getattr(document, name) for name in _PLAIN}
    values["engine"] = json.dumps(document.engine)
    values["provenance"] = json.dumps(document.provenance)
    values["title_sealed"] = sealer.seal(document.tenant_id, "document-title", document.title.encode())
    columns = ", ".join(values)
    places = ", ".join(f"${index}" for index in range(1, len(values) + 1))
    row = await connection.fetchrow(
        f"""WITH document AS (INSERT INTO documents ({columns}) VALUES ({places})
                ON CONFLICT DO NOTHING RETURNING tenant_id, id, facility_id),
            announced AS ({_ANNOUNCE})
            SELECT id FROM document""",
        *values.values(),
    )
    return row is not None


async def announce(connection: Connection, document: Document) -> None:
    """Put the document into the feed of those who may see it."""
    facilities = None if document.facility_id is None else [document.facility_id]
    await changes.record(connection, document.tenant_id, "document", document.id, facility_ids=facilities)


async def show(
    connection: Connection, caller: Caller, document_id: str, sealer: Sealer, *, for_update: bool = False
) -> Document:
    """Read a document that the caller may see.

    Raises:
        NotFound: there is none such, or it belongs to a facility that the caller is not in.
    """
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM documents WHERE id = $1 {'FOR UPDATE' if for_update else ''}", document_id
    )
    if row is None:
        raise NotFound()
    document = _from_row(row, sealer)
    if not access.permits(caller, document.subject):
        raise NotFound()
    return document


async def show_readable(connection: Connection, caller: Caller, document_id: str, sealer: Sealer) -> Document:
    """Read a document whose bytes may be served.

    Raises:
        NotFound: as ``show``.
        DocumentWithdrawn: it was superseded, entered in error, or purged when its time of keeping was over.
    """
    document = await show(connection, caller, document_id, sealer)
    if document.purged_at is not None:
        raise DocumentWithdrawn(
            "Its time of keeping was over; the bytes were deleted.", extra={"documentStatus": "purged"}
        )
    if document.status != "current":
        raise DocumentWithdrawn(extra={"documentStatus": document.status, "supersededBy": document.superseded_by})
    return document


async def patient_of(connection: Connection, document_id: str | None) -> str | None:
    """The patient of a document of the transaction's tenant, for the trail."""
    patient: str | None = await connection.fetchval(
        "SELECT patient_id FROM documents WHERE tenant_id = current_tenant() AND id = $1", document_id
    )
    return patient


@dataclass(frozen=True, slots=True)
class Search:
    """What a search is narrowed to; None = any. Instants bound ``created_at``."""

    patient_id: str
    encounter_id: str | None = None
    category: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def search(
    connection: Connection, caller: Caller, wanted: Search, after_id: str | None, limit: int, sealer: Sealer
) -> list[Document]:
    """Documents of a patient that the caller may see, newest first, at most ``limit``."""
    found: list[Document] = []
    while True:
        rows = await connection.fetch(
            f"""SELECT {_COLUMNS} FROM documents WHERE tenant_id = $1 AND patient_id = $2
                  AND ($3::text IS NULL OR encounter_id = $3) AND ($4::text IS NULL OR category = $4)
                  AND ($5::text IS NULL OR status = $5) AND ($6::timestamptz IS NULL OR created_at >= $6)
                  AND ($7::timestamptz IS NULL OR created_at < $7)
                  AND ($8::text[] IS NULL OR facility_id IS NULL OR facility_id = ANY ($8))
                  AND ($9::text IS NULL OR id < $9)
                ORDER BY id DESC LIMIT $10""",
            caller.tenant,
            wanted.patient_id,
            wanted.encounter_id,
            wanted.category,
            wanted.status,
            wanted.since,
            wanted.until,
            access.facilities_of(caller),
            after_id,
            limit,
        )
        found += _permitted(caller, rows, sealer)
        # A rule stricter than facilities may leave a page short although there is more behind it.
        if len(found) >= limit or len(rows) < limit:
            return found[:limit]
        after_id = rows[-1]["id"]


async def list_by_ids(connection: Connection, caller: Caller, ids: list[str], sealer: Sealer) -> list[Document]:
    """The documents of these ids that the caller may see."""
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM documents WHERE id = ANY ($1)", ids)
    return _permitted(caller, rows, sealer)


def _permitted(caller: Caller, rows: list[Any], sealer: Sealer) -> list[Document]:
    found = [_from_row(row, sealer) for row in rows]
    return [document for document in found if access.permits(caller, document.subject)]


# --- taking a document back --------------------------------------------------------------------------------------


async def supersede(
    connection: Connection, old: Document, new: Document, reason: str, sealer: Sealer
) -> tuple[Document, Document]:
    """Replace ``old`` by ``new``, both read for update; both as they are afterwards.

    Raises:
        DocumentPatientDiffers: they are of two patients.
        DocumentStateConflict: one is withdrawn already, or ``new`` replaces another document.
    """
    if old.id == new.id:
        raise DocumentStateConflict("A document cannot replace itself.")
    if old.patient_id != new.patient_id:
        raise DocumentPatientDiffers()
    if old.status != "current" or old.purged_at is not None:
        raise DocumentStateConflict(f"The document is {old.status}.", extra={"documentStatus": old.status})
    if new.status != "current" or new.purged_at is not None:
        raise DocumentStateConflict(f"The replacement is {new.status}.", extra={"documentStatus": new.status})
    if new.supersedes is not None:
        raise DocumentStateConflict("The replacement already replaces another document.")
    await connection.execute(
        "UPDATE documents SET supersedes = $3 WHERE tenant_id = $1 AND id = $2", new.tenant_id, new.id, old.id
    )
    withdrawn = await _withdraw(connection, old, "superseded", reason, sealer, superseded_by=new.id)
    await announce(connection, new)
    return withdrawn, replace(new, supersedes=old.id)


async def void(connection: Connection, document: Document, reason: str, sealer: Sealer) -> Document:
    """Mark a document that was read for update as entered in error; the document as it is afterwards.

    Raises:
        DocumentStateConflict: it is withdrawn already.
    """
    if document.status != "current" or document.purged_at is not None:
        raise DocumentStateConflict(f"The document is {document.status}.", extra={"documentStatus": document.status})
    return await _withdraw(connection, document, "entered-in-error", reason, sealer)


async def _withdraw(
    connection: Connection,
    document: Document,
    status: str,
    reason: str,
    sealer: Sealer,
    superseded_by: str | None = None,
) -> Document:
    at: datetime = await connection.fetchval(
        """UPDATE documents SET status = $3, superseded_by = $4, withdrawn_at = now(), withdrawn_reason_sealed = $5
           WHERE tenant_id = $1 AND id = $2 RETURNING withdrawn_at""",
        document.tenant_id,
        document.id,
        status,
        superseded_by,
        sealer.seal(document.tenant_id, "withdrawn-reason", reason.encode()),
    )
    withdrawn = replace(document, status=status, superseded_by=superseded_by, withdrawn_at=at)
    await announce(connection, withdrawn)
    await revoke(connection, withdrawn, status)
    return withdrawn


async def revoke(connection: Connection, document: Document, reason: str) -> None:
    """Tell every device that may hold the document to drop its copy."""
    facilities = None if document.facility_id is None else [document.facility_id]
    await changes.record(
        connection, document.tenant_id, "revocation", document.id, facility_ids=facilities, reason=reason
    )
