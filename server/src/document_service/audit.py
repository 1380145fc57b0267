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
