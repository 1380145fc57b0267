"""How long documents are kept, what must not be deleted, and the deletion itself.

By default everything is kept for ever. A tenant may say for how many days documents of a category are kept; a single
document may have an end of its own. When it is over, ``purge`` deletes the bytes and leaves the row, which then says
so: number, patient, hashes and the trail stay, title and content go.

A legal hold belongs to a case and covers one document or everything of one patient, for as long as any hold is in
force. It is enforced where the delete happens: by the query that chooses, and by triggers that refuse whatever the
statement and whoever the user; a shred of the tenant and the destruction of a quarantined file of the patient are
refused too. All functions but ``require_free`` are for the owner role, in a transaction of the command.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from document_service import audit, changes, identifiers
from document_service.database import Connection
from document_service.errors import HoldConflict, NotFound
from document_service.tenants import PLATFORM, Sealer

#: One lock for holds and purges of a tenant: a hold is placed before a purge chooses, or after it is over.
_LOCK = "SELECT pg_advisory_xact_lock(3020005, hashtext($1))"

#: Documents purged in one transaction: 0.1 s of writing, which holds up nobody who reads the change feed.
BATCH = 100

#: So long after lost commits nothing is purged unasked; the sweep of unnamed objects waits as long.
AFTER_RESTORE = timedelta(days=7)

#: What a purged document is called; its own title may name a condition.
PURGED_TITLE = "Purged document"


#: PostgreSQL's infinity, as its driver gives and takes it.
FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Hold:
    """One row of ``legal_holds``."""

    id: str
    case_id: str
    document_id: str | None
    patient_id: str | None
    placed_at: datetime
    placed_by: str
    released_at: datetime | None
    released_by: str | None


_HOLD_COLUMNS = ", ".join(Hold.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Due:
    """A document whose time of keeping is over; ``why`` names the rule, ``cases`` what holds it all the same."""

    tenant_id: str
    document_id: str
    category: str
    over_since: datetime
    why: str
    cases: list[str]

    @property
    def is_held(self) -> bool:
        """Whether it must not be deleted now."""
        return bool(self.cases)


async def set_class(
    connection: Connection, tenant_id: str, category: str, keep_days: int | None, by: str = "operator"
) -> None:
    """Keep documents of a category for so many days after they were made; None = for ever."""
    detail = {"category": category, "keepDays": keep_days}
    await audit.record(connection, tenant_id, audit.Event("retention.class", by, detail=detail))
    if keep_days is None:
        await connection.execute(
            "DELETE FROM retention_classes WHERE tenant_id = $1 AND category = $2", tenant_id, category
        )
        return
    await connection.execute(
        """INSERT INTO retention_classes (tenant_id, category, keep_days) VALUES ($1, $2, $3)
           ON CONFLICT (tenant_id, category) DO UPDATE SET keep_days = excluded.keep_days""",
        tenant_id,
        category,
        keep_days,
    )


async def classes(connection: Connection, tenant_id: str) -> dict[str, int]:
    """Days by category; a category that is not there is kept for ever."""
    rows = await connection.fetch(
        "SELECT category, keep_days FROM retention_classes WHERE tenant_id = $1 ORDER BY 1", tenant_id
    )
    return {row["category"]: row["keep_days"] for row in rows}


async def set_document(
    connection: Connection,
    tenant_id: str,
    document_id: str,
    until: datetime | None,
    *,
    reason: str,
    by: str,
    sealer: Sealer,
) -> None:
    """Give one document an end of its own, whatever its category's; FOR_EVER for none, None for the category's again.

    Raises:
        NotFound: there is no such document.
        HoldConflict: it was purged already, or a case holds it and this would end its keeping earlier than before.
    """
    await connection.execute(_LOCK, tenant_id)
    row = await connection.fetchrow(
        """SELECT d.patient_id, d.purged_at, d.retention_until, h.cases,
               coalesce(d.retention_until, in_category, 'infinity') AS before,
               coalesce($3, in_category, 'infinity') AS then
           FROM documents d LEFT JOIN retention_classes c ON c.tenant_id = d.tenant_id AND c.category = d.category,
               LATERAL (SELECT d.created_at + make_interval(days => c.keep_days) AS in_category) AS k,
               LATERAL (SELECT string_agg(DISTINCT case_id, ', ') AS cases FROM legal_holds h
                   WHERE h.tenant_id = d.tenant_id AND h.released_at IS NULL
                     AND (h.document_id = d.id OR h.patient_id = d.patient_id)) AS h
           WHERE d.tenant_id = $1 AND d.id = $2""",
        tenant_id,
        document_id,
        until,
    )
    if row is None:
        raise NotFound("The tenant has no document with this id.")
    if row["purged_at"] is not None:
        raise HoldConflict("The document was purged before; there is nothing left to keep.")
    if row["cases"] is not None and row["then"] < row["before"]:
        raise HoldConflict(f"Held by {row['cases']}: what a case holds may be kept longer and not shorter.")
    await connection.execute(
        "UPDATE documents SET retention_until = $3 WHERE tenant_id = $1 AND id = $2", tenant_id, document_id, until
    )
    detail = {
        "until": _named(until),
        "before": _named(row["retention_until"]),
        **audit.sealed_reason(sealer.seal, tenant_id, reason),
    }
    event = audit.Event("retention.document", by, document_id=document_id, patient_id=row["patient_id"], detail=detail)
    await audit.record(connection, tenant_id, event)


def _named(until: datetime | None) -> str:
    if until is None:
        return "category"
    return "forever" if until == FOR_EVER else until.isoformat()


async def place_hold(
    connection: Connection,
    tenant_id: str,
    case_id: str,
    *,
    document_id: str | None,
    patient_id: str | None,
    reason: str,
    by: str,
    sealer: Sealer,
) -> str:
    """Keep a document, or everything of a patient, for a case; the hold's id.

    Raises:
        NotFound: there is no such document.
        HoldConflict: it was purged already, or this case holds it already.
    """
    await connection.execute(_LOCK, tenant_id)
    if document_id is not None:
        row = await connection.fetchrow(
            "SELECT purged_objects_at FROM documents WHERE tenant_id = $1 AND id = $2", tenant_id, document_id
        )
        if row is None:
            raise NotFound("The tenant has no document with this id.")
        if row["purged_objects_at"] is not None:
            raise HoldConflict("The document's bytes were purged before; there is nothing left to hold.")
    hold_id: str | None = await connection.fetchval(
        """INSERT INTO legal_holds (tenant_id, id, case_id, document_id, patient_id, reason_sealed, placed_by)
           VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING id""",
        tenant_id,
        identifiers.new("hold"),
        case_id,
        document_id,
        patient_id,
        sealer.seal(tenant_id, "hold-reason", reason.encode()),
        by,
    )
    if hold_id is None:
        raise HoldConflict("This case holds it already.")
    detail = {"caseId": case_id, "holdId": hold_id, **audit.sealed_reason(sealer.seal, tenant_id, reason)}
    event = audit.Event("hold.place", by, document_id=document_id, patient_id=patient_id, detail=detail)
    await audit.record(connection, tenant_id, event)
    return hold_id


async def release_holds(
    connection: Connection, tenant_id: str, case_id: str, *, reason: str, by: str, sealer: Sealer
) -> list[Hold]:
    """End every hold of a case; the holds that ended.

    Raises:
        NotFound: the case holds nothing.
    """
    await connection.execute(_LOCK, tenant_id)
    rows = await connection.fetch(
        f"""UPDATE legal_holds SET released_at = now(), released_by = $3
            WHERE tenant_id = $1 AND case_id = $2 AND released_at IS NULL RETURNING {_HOLD_COLUMNS}""",
        tenant_id,
        case_id,
        by,
    )
    if not rows:
        raise NotFound("This case holds nothing.")
    released = [Hold(**dict(row)) for row in rows]
    for hold in released:
        detail = {"caseId": case_id, "holdId": hold.id, **audit.sealed_reason(sealer.seal, tenant_id, reason)}
        event = audit.Event("hold.release", by, document_id=hold.document_id, patient_id=hold.patient_id, detail=detail)
        await audit.record(connection, tenant_id, event)
    return released


async def holds(connection: Connection, tenant_id: str) -> list[Hold]:
    """Every hold of a tenant, in force or not, newest first."""
    rows = await connection.fetch(
        f"SELECT {_HOLD_COLUMNS} FROM legal_holds WHERE tenant_id = $1 ORDER BY id DESC", tenant_id
    )
    return [Hold(**dict(row)) for row in rows]


async def require_free(connection: Connection, tenant_id: str, patient_id: str | None = None) -> None:
    """Make sure that no hold is in force, of one patient or of the whole tenant, until the transaction ends.

    Raises:
        HoldConflict: a case holds something; its name is told.
    """
    await connection.execute(_LOCK, tenant_id)
    cases = await connection.fetchval(
        """SELECT string_agg(DISTINCT case_id, ', ') FROM legal_holds
           WHERE tenant_id = $1 AND released_at IS NULL AND ($2::text IS NULL OR patient_id = $2)""",
        tenant_id,
        patient_id,
    )
    if cases is not None:
        raise HoldConflict(f"Held by {cases}.")


async def restored_at(connection: Connection) -> datetime | None:
    """When commits may have been lost within the last days, as a restore loses them; None when none were. Owner role.

    Holds that were placed since the backup are not in the database then, until somebody says that they are set again
    (``note_holds_are_set``). The first epoch is older than every tenant.
    """
    found: datetime | None = await connection.fetchval(
        """SELECT updated_at FROM document.service_state AS s
           WHERE key = 'sync_epoch' AND updated_at > now() - $1::interval
             AND NOT EXISTS (SELECT FROM document.service_state h WHERE h.key = 'holds_set_in' AND h.value = s.value)
             AND EXISTS (SELECT FROM document.tenants WHERE tenant_id <> $2 AND created_at < s.updated_at)""",
        AFTER_RESTORE,
        PLATFORM,
    )
    return found


async def note_holds_are_set(connection: Connection) -> None:
    """Remember that an operator has set again, in this epoch, what was held since the backup. Owner role."""
    await connection.execute(
        """INSERT INTO document.service_state AS s (key, value)
           SELECT 'holds_set_in', value FROM document.service_state WHERE key = 'sync_epoch'
           ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()"""
    )


async def due(connection: Connection, tenant_id: str, limit: int = BATCH, after: str = "") -> list[Due]:
    """Documents whose time of keeping is over, held ones too, in order of their ids, behind ``after``."""
    await connection.execute(_LOCK, tenant_id)
    rows = await connection.fetch(
        """SELECT d.tenant_id, d.id AS document_id, d.category,
               coalesce(d.retention_until, d.created_at + make_interval(days => c.keep_days)) AS over_since,
               CASE WHEN d.retention_until IS NOT NULL THEN 'its own date'
                    ELSE d.category || ' is kept ' || c.keep_days || ' days' END AS why,
               ARRAY(SELECT DISTINCT h.case_id FROM legal_holds h WHERE h.tenant_id = d.tenant_id
                   AND h.released_at IS NULL AND (h.document_id = d.id OR h.patient_id = d.patient_id)) AS cases
           FROM documents d LEFT JOIN retention_classes c ON c.tenant_id = d.tenant_id AND c.category = d.category
           WHERE d.tenant_id = $1 AND d.purged_at IS NULL
             AND coalesce(d.retention_until, d.created_at + make_interval(days => c.keep_days)) < now()
             AND d.id > $2
           ORDER BY d.id LIMIT $3""",
        tenant_id,
        after,
        limit,
    )
    return [Due(**dict(row)) for row in rows]


async def purge(connection: Connection, wanted: Due, by: str, sealer: Sealer) -> None:
    """Make a tombstone of a document's row, and of its job's; the objects go afterwards (``objects_to_delete``).

    Raises:
        HoldConflict: a case holds it.
    """
    if wanted.is_held:
        raise HoldConflict(f"Held by {', '.join(wanted.cases)}.")
    row = await connection.fetchrow(
        """UPDATE documents SET purged_at = now(), title_sealed = $3, withdrawn_reason_sealed = NULL
           WHERE tenant_id = $1 AND id = $2 AND purged_at IS NULL
           RETURNING patient_id, facility_id, render_job_id, upload_id""",
        wanted.tenant_id,
        wanted.document_id,
        sealer.seal(wanted.tenant_id, "document-title", PURGED_TITLE.encode()),
    )
    await connection.execute(
        "UPDATE uploads SET title_sealed = $3, file_name_sealed = $4 WHERE tenant_id = $1 AND id = $2",
        wanted.tenant_id,
        row["upload_id"],
        sealer.seal(wanted.tenant_id, "upload-title", PURGED_TITLE.encode()),
        sealer.seal(wanted.tenant_id, "upload-file_name", PURGED_TITLE.encode()),
    )
    await connection.execute(
        """UPDATE document_render_jobs SET purged_at = coalesce(purged_at, now()), request_sealed = NULL
           WHERE tenant_id = $1 AND id = $2""",
        wanted.tenant_id,
        row["render_job_id"],
    )
    facilities = None if row["facility_id"] is None else [row["facility_id"]]
    for kind, reason in (("document", None), ("revocation", "purged")):
        await changes.record(
            connection, wanted.tenant_id, kind, wanted.document_id, facility_ids=facilities, reason=reason
        )
    event = audit.Event(
        "document.purge",
        by,
        document_id=wanted.document_id,
        patient_id=row["patient_id"],
        detail={"why": wanted.why, "category": wanted.category, "overSince": wanted.over_since.isoformat()},
    )
    await audit.record(connection, wanted.tenant_id, event)


async def objects_to_delete(connection: Connection, tenant_id: str) -> dict[str, list[str]]:
    """Names of objects by document, of at most ``BATCH`` purged documents whose objects are not known to be gone.

    No hold is placed until the transaction ends, and what a case has held since the purge is left out.
    """
    await connection.execute(_LOCK, tenant_id)
    rows = await connection.fetch(
        """SELECT id, object_name, snapshot_name, original_name FROM documents d
           WHERE tenant_id = $1 AND purged_at IS NOT NULL AND purged_objects_at IS NULL
             AND NOT EXISTS (SELECT FROM legal_holds h WHERE h.tenant_id = d.tenant_id AND h.released_at IS NULL
                 AND (h.document_id = d.id OR h.patient_id = d.patient_id))
           ORDER BY id LIMIT $2""",
        tenant_id,
        BATCH,
    )
    return {
        row["id"]: [row[name] for name in ("object_name", "snapshot_name", "original_name") if row[name] is not None]
        for row in rows
    }


async def note_deleted(connection: Connection, tenant_id: str, document_ids: list[str]) -> None:
    """Record that the objects of these documents are gone."""
    await connection.execute(
        "UPDATE documents SET purged_objects_at = now() WHERE tenant_id = $1 AND id = ANY ($2)", tenant_id, document_ids
    )
