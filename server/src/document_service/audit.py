"""The audit trail: append-only rows, written in the transaction of the act that they record (design §6).

Details hold ids and codes only. Events of a device keep the body that the device hashed, so that its chain can be
checked for ever.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from document_service import identifiers
from document_service.database import Connection


@dataclass(frozen=True, slots=True)
class Event:
    """One act: who, what, on which record, when. ``detail`` holds ids and codes, never patient data."""

    action: str
    actor: str
    outcome: str = "success"
    document_id: str | None = None
    job_id: str | None = None
    template_id: str | None = None
    upload_id: str | None = None
    patient_id: str | None = None
    device_id: str | None = None
    request_id: str | None = None
    occurred_at: datetime | None = None
    device_event_id: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


def sealed_reason(seal: Callable[[str, str, bytes], bytes], tenant_id: str, reason: str) -> dict[str, str]:
    """The part of a detail that keeps a person's free text; only an auditor's query opens it."""
    return {"reasonSealed": base64.b64encode(seal(tenant_id, "audit-reason", reason.encode())).decode()}


async def record(connection: Connection, tenant_id: str, event: Event) -> str | None:
    """Append one event; its id, or None when this device event is already there."""
    row: str | None = await connection.fetchval(
        """INSERT INTO audit_events (tenant_id, id, occurred_at, action, outcome, actor, device_id, document_id,
               job_id, template_id, upload_id, patient_id, request_id, device_event_id, detail)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
           ON CONFLICT (tenant_id, device_event_id) WHERE device_event_id IS NOT NULL DO NOTHING
           RETURNING id""",
        tenant_id,
        identifiers.new("audit"),
        event.occurred_at or datetime.now(UTC),
        event.action,
        event.outcome,
        event.actor,
        event.device_id,
        event.document_id,
        event.job_id,
        event.template_id,
        event.upload_id,
        event.patient_id,
        event.request_id,
        event.device_event_id,
        json.dumps(event.detail),
    )
    return row


@dataclass(frozen=True, slots=True)
class Recorded(Event):
    """One row of the trail; ``chain_seq`` is its place in the chain, None until the sequencer has been there."""

    id: str = ""
    seq: int = 0
    recorded_at: datetime = datetime.min.replace(tzinfo=UTC)
    chain_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What an auditor narrows the trail to; None = any. Instants bound ``recorded_at``."""

    action: str | None = None
    actor: str | None = None
    outcome: str | None = None
    document_id: str | None = None
    patient_id: str | None = None
    device_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


#: Whose facility divides the patients sees a patient only where a record in the row's own words places it; a search, a
#: request that was refused, and what is purged say nothing of a facility.
_PATIENT = """CASE WHEN $12::text[] IS NULL
        OR EXISTS (SELECT FROM documents d WHERE d.tenant_id = e.tenant_id AND d.id = e.document_id
            AND (d.facility_id IS NULL OR d.facility_id = ANY ($12)))
        OR EXISTS (SELECT FROM document_render_jobs j WHERE j.tenant_id = e.tenant_id AND j.id = e.job_id
            AND (j.facility_ids IS NULL OR j.facility_ids && $12))
        OR EXISTS (SELECT FROM uploads u WHERE u.tenant_id = e.tenant_id AND u.id = e.upload_id
            AND (u.facility_ids IS NULL OR u.facility_ids && $12))
    THEN e.patient_id END"""
_SHOWN = tuple(name for name in Recorded.__dataclass_fields__ if name not in ("chain_seq", "patient_id"))
_COLUMNS = ", ".join(f"e.{name}" for name in _SHOWN) + f", {_PATIENT} AS patient_id"


async def search(
    connection: Connection,
    tenant_id: str,
    wanted: Query,
    after_id: str | None,
    limit: int,
    facilities: list[str] | None = None,
) -> list[Recorded]:
    """Events of a tenant, newest first.

    An action that ends in ``*`` is a prefix. With ``facilities``, events on documents, jobs and uploads of others are
    left out, and a patient is named only where one of theirs is.
    """
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS}, c.chain_seq FROM audit_events e
            LEFT JOIN audit_chain c ON c.tenant_id = e.tenant_id AND c.event_id = e.id
            WHERE e.tenant_id = $1 AND ($2::text IS NULL OR e.action = $2 OR starts_with(e.action, rtrim($2, '*'))
                    AND right($2, 1) = '*')
              AND ($3::text IS NULL OR e.actor = $3) AND ($4::text IS NULL OR e.outcome = $4)
              AND ($5::text IS NULL OR e.document_id = $5)
              AND ($6::text IS NULL OR e.patient_id = $6 AND ({_PATIENT}) = $6)
              AND ($7::text IS NULL OR e.device_id = $7)
              AND ($8::timestamptz IS NULL OR e.recorded_at >= $8)
              AND ($9::timestamptz IS NULL OR e.recorded_at < $9)
              AND ($10::text IS NULL OR e.id < $10)
              AND ($12::text[] IS NULL OR NOT EXISTS (SELECT FROM documents d WHERE d.tenant_id = e.tenant_id
                    AND d.id = e.document_id AND d.facility_id <> ALL ($12))
                AND NOT EXISTS (SELECT FROM document_render_jobs j WHERE j.tenant_id = e.tenant_id
                    AND j.id = e.job_id AND NOT j.facility_ids && $12)
                AND NOT EXISTS (SELECT FROM uploads u WHERE u.tenant_id = e.tenant_id
                    AND u.id = e.upload_id AND NOT u.facility_ids && $12))
            ORDER BY e.id DESC LIMIT $11""",
        tenant_id,
        wanted.action,
        wanted.actor,
        wanted.outcome,
        wanted.document_id,
        wanted.patient_id,
        wanted.device_id,
        wanted.since,
        wanted.until,
        after_id,
        limit,
        facilities,
    )
    return [Recorded(**{**dict(row), "detail": json.loads(row["detail"])}) for row in rows]


@dataclass(frozen=True, slots=True)
class Acts:
    """How often a user did one thing with a document on one device (None: on none that is enrolled)."""

    actor: str
    device_id: str | None
    action: str
    times: int
    first_at: datetime
    last_at: datetime


async def acts_on_document(connection: Connection, tenant_id: str, document_id: str) -> list[Acts]:
    """Every successful act on a document, summed by user, device and action."""
    rows = await connection.fetch(
        """SELECT actor, device_id, action, count(*) AS times, min(occurred_at) AS first_at, max(occurred_at) AS last_at
           FROM audit_events WHERE tenant_id = $1 AND document_id = $2 AND outcome = 'success'
           GROUP BY 1, 2, 3 ORDER BY 5""",
        tenant_id,
        document_id,
    )
    return [Acts(**dict(row)) for row in rows]
