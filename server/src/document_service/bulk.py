"""Bulk requests: one template version for many patients; every item is a render job of its own (contract §2, §3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from document_service import audit, changes, identifiers
from document_service.database import Connection
from document_service.errors import Cancelled, NotFound
from document_service.tokens import Caller


@dataclass(frozen=True, slots=True)
class Bulk:
    """One row of ``bulk_requests`` with the counts of its jobs."""

    id: str
    template_version_id: str
    items: int
    created_at: datetime
    created_by: str
    cancelled_at: datetime | None
    queued: int
    running: int
    completed: int
    failed: int


async def create(connection: Connection, caller: Caller, template_version_id: str, items: int) -> str:
    """Name a bulk request; its id."""
    bulk_id = identifiers.new("bulk")
    await connection.execute(
        "INSERT INTO bulk_requests (tenant_id, id, template_version_id, items, created_by) VALUES ($1, $2, $3, $4, $5)",
        caller.tenant,
        bulk_id,
        template_version_id,
        items,
        caller.user,
    )
    return bulk_id


async def show(connection: Connection, caller: Caller, bulk_id: str) -> Bulk:
    """A bulk request with its progress, for who asked it and for administrators of the whole tenant.

    Raises:
        NotFound: there is none such that the caller may see.
    """
    row: Any = await connection.fetchrow(
        """SELECT b.id, b.template_version_id, b.items, b.created_at, b.created_by, b.cancelled_at,
                  count(j.id) FILTER (WHERE j.status = 'queued') AS queued,
                  count(j.id) FILTER (WHERE j.status = 'running') AS running,
                  count(j.id) FILTER (WHERE j.status = 'completed') AS completed,
                  count(j.id) FILTER (WHERE j.status = 'failed') AS failed
           FROM bulk_requests b LEFT JOIN document_render_jobs j ON j.tenant_id = b.tenant_id AND j.bulk_id = b.id
           WHERE b.id = $1 GROUP BY b.tenant_id, b.id""",
        bulk_id,
    )
    # Its patients may be of any facility, so an administrator of one facility sees another's requests as nothing.
    if row is None or (row["created_by"] != caller.user and caller.facilities is not None):
        raise NotFound()
    return Bulk(**row)


async def cancel(connection: Connection, bulk_id: str) -> list[str]:
    """Fail the jobs that have not started, with CANCELLED; their ids. What runs or is finished stays as it is.

    One that waited for another try has a number already, and the trail holds the account of it.
    """
    await connection.execute(
        "UPDATE bulk_requests SET cancelled_at = now() WHERE id = $1 AND cancelled_at IS NULL", bulk_id
    )
    rows = await connection.fetch(
        """UPDATE document_render_jobs SET status = 'failed', finished_at = now(), error_code = $2, error_title = $3
           WHERE bulk_id = $1 AND status = 'queued'
           RETURNING tenant_id, id, facility_ids, created_by, patient_id, document_number""",
        bulk_id,
        Cancelled.code,
        Cancelled.title,
    )
    for row in rows:
        await changes.record(
            connection,
            row["tenant_id"],
            "job",
            row["id"],
            facility_ids=row["facility_ids"],
            user_id=row["created_by"],
        )
        if row["document_number"] is not None:
            await audit.record(
                connection,
                row["tenant_id"],
                audit.Event(
                    "document.generate",
                    row["created_by"],
                    outcome="failure",
                    job_id=row["id"],
                    patient_id=row["patient_id"],
                    detail={"code": Cancelled.code, "number": row["document_number"]},
                ),
            )
    return [row["id"] for row in rows]
