"""Documents: immutable files with their metadata. The bytes are in the object store; a row says which count.

State chart (bytes never change; a document can only be taken back):

    current ──supersede──▶ superseded
       └──void──▶ entered-in-error
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from document_service import changes
from document_service.database import Connection
from document_service.errors import DocumentWithdrawn, NotFound
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
    created_at: datetime
    created_by: str

    @property
    def etag(self) -> str:
        """The entity tag of the metadata; the bytes' own tag is their SHA-256."""
        return f'"{self.id}.{self.status}"'


_PLAIN = tuple(name for name in Document.__dataclass_fields__ if name != "title")
_COLUMNS = ", ".join((*_PLAIN, "title_sealed"))


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
        f"INSERT INTO documents ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING RETURNING id", *values.values()
    )
    if row is None:
        return False
    await announce(connection, document)
    return True


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
    if row is None or not caller.may_see_facility(row["facility_id"]):
        raise NotFound()
    return _from_row(row, sealer)


async def show_readable(connection: Connection, caller: Caller, document_id: str, sealer: Sealer) -> Document:
    """Read a document whose bytes may be served.

    Raises:
        NotFound: as ``show``.
        DocumentWithdrawn: it was superseded or entered in error.
    """
    document = await show(connection, caller, document_id, sealer)
    if document.status != "current":
        raise DocumentWithdrawn(extra={"documentStatus": document.status, "supersededBy": document.superseded_by})
    return document


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
    """Documents of a patient that the caller may see, newest first."""
    facilities = None if caller.facilities is None else sorted(caller.facilities)
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
        facilities,
        after_id,
        limit,
    )
    return [_from_row(row, sealer) for row in rows]


async def list_by_ids(connection: Connection, caller: Caller, ids: list[str], sealer: Sealer) -> list[Document]:
    """The documents of these ids that the caller may see."""
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM documents WHERE id = ANY ($1)", ids)
    return [_from_row(row, sealer) for row in rows if caller.may_see_facility(row["facility_id"])]
