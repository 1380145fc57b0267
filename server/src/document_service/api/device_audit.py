"""Intake of the audit events that devices kept while they were offline (contract §4 and §6)."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import rfc8785
from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from document_service import audit, devices, documents, identifiers
from document_service.api import shapes
from document_service.api.callers import AnyCaller, Opened
from document_service.api.exact import ExactRoute
from document_service.database import Connection, tenant_transaction
from document_service.exact_json import dumps_exact
from document_service.keys import KeyStore
from document_service.tokens import Caller

router = APIRouter(prefix="/v1/documents", tags=["device"], route_class=ExactRoute)

#: What clients are known to send (contract §6). Other members may hold anything, a name too.
_KNOWN = {
    *("eventId", "deviceId", "userId", "sequence", "action", "documentId", "documentSha256", "occurredAt"),
    *("clock", "copy", "printer", "clientMutationId", "previousHash", "hash"),
}

_TEXTS = ("eventId", "deviceId", "userId", "action", "occurredAt", "previousHash", "hash")

#: A longer member is not an id, an instant or a printer's name.
_TEXT_LIMIT = 400


def event_hash(event: dict[str, Any]) -> str:
    """SHA-256 hex of the RFC 8785 form of the event without ``hash`` (contract §6)."""
    return hashlib.sha256(rfc8785.dumps({k: v for k, v in event.items() if k != "hash"})).hexdigest()


@router.post("/audit-events", summary="Audit events of a device, each taken once")
async def take(body: shapes.DeviceEvents, caller: AnyCaller, runtime: Opened, request: Request) -> Response:
    items: list[dict[str, Any]] = []
    sender = request.state.device_id if getattr(request.state, "by_signature", False) else None
    for sent in body.events:
        event = _as_hashed(sent) if isinstance(sent, dict) else {}
        # Beside the event, not of it: its device took it back from an outbox that had been set aside.
        recovered = event.get("recovered") is True
        if recovered:
            del event["recovered"]
        fault = _fault(event)
        if fault is not None:
            shown = sent.get("eventId") if isinstance(sent, dict) else None
            items.append({"eventId": shown if isinstance(shown, str) else None, "result": "refused", "reason": fault})
            continue
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            flags = [*await _flags(connection, caller, sender, event), *(["recovered"] if recovered else [])]
            wanted = audit.Event(
                f"device.{event['action']}",
                event["userId"],
                # An auditor who asks for failures must find the print that failed; the name alone is not searched.
                outcome="failure" if event["action"].endswith(".failed") else "success",
                device_id=event["deviceId"],
                document_id=event.get("documentId"),
                patient_id=await documents.patient_of(connection, event.get("documentId")),
                occurred_at=_instant(event["occurredAt"]),
                device_event_id=event["eventId"],
                request_id=request.state.request_id,
                detail={**_kept(runtime.keys, caller.tenant, event), "flags": flags},
            )
            recorded = await audit.record(connection, caller.tenant, wanted)
            if recorded is None and (other := await _as_another(connection, caller.tenant, wanted, event)) is not None:
                recorded = await audit.record(connection, caller.tenant, other)
        items.append({"eventId": event["eventId"], "result": "accepted" if recorded else "duplicate", "flags": flags})
    return JSONResponse({"items": items})


async def _as_another(
    connection: Connection, tenant_id: str, wanted: audit.Event, event: dict[str, Any]
) -> audit.Event | None:
    """The event as evidence of its own where its id was taken by one with another content; None when it is that one.

    It would be lost as a duplicate otherwise. Its id carries its hash, so that it is taken once as well.
    """
    first = await connection.fetchrow(
        """SELECT detail->'event'->>'hash' AS hash, detail->'flags' ? 'hash-mismatch' AS changed
           FROM audit_events WHERE tenant_id = $1 AND device_event_id = $2""",
        tenant_id,
        wanted.device_event_id,
    )
    own = event_hash(event)
    # Who changes a body may leave its hash: that is not the event which the device hashed.
    if (first["hash"], first["changed"]) == (event["hash"], own != event["hash"]):
        return None
    wanted.detail["flags"].append("id-reused")
    return replace(wanted, device_event_id=f"{wanted.device_event_id}#{own}")


def _as_hashed(event: dict[str, Any]) -> dict[str, Any]:
    """The event with its numbers as RFC 8785 knows them (IEEE 754 doubles); empty when it nests absurdly deep."""
    try:
        plain: dict[str, Any] = json.loads(dumps_exact(event))
    except ValueError:
        return {}
    return plain


def _kept(keys: KeyStore, tenant_id: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event as the trail holds it: known members as they are, all others sealed, so that its hash can be checked.

    A known member that is an object or a long text is not what clients send, and is sealed like an unknown one.
    """
    plain = {
        name: value
        for name, value in event.items()
        if name in _KNOWN and not isinstance(value, dict | list) and len(str(value)) <= _TEXT_LIMIT
    }
    rest = {name: value for name, value in event.items() if name not in plain}
    if not rest:
        return {"event": plain}
    sealed = keys.seal(tenant_id, "device-event", json.dumps(rest).encode())
    return {"event": plain, "restSealed": base64.b64encode(sealed).decode()}


def _fault(event: dict[str, Any]) -> str | None:
    """Why an event cannot be parsed, or None; whatever can be parsed is evidence and is taken."""
    for name in _TEXTS:
        if not isinstance(event.get(name), str) or not 0 < len(event[name]) <= _TEXT_LIMIT:
            return f"{name} is missing or not text"
    if isinstance(event.get("sequence"), bool) or not isinstance(event.get("sequence"), int) or event["sequence"] < 0:
        return "sequence is missing or not a whole number"
    if event.get("documentId") is not None and not identifiers.is_id("document", str(event["documentId"])):
        return "documentId is not a document id"
    if _instant(event["occurredAt"]) is None:
        return "occurredAt is not an RFC 3339 instant"
    try:
        text = rfc8785.dumps(event)
    except (ValueError, rfc8785.CanonicalizationError, RecursionError):
        return "the event has no canonical form"
    if len(text) > 8 * 1024 or b"\\u0000" in text:
        return "the event is too large or holds a character that cannot be stored"
    return None


def _instant(text: str) -> datetime | None:
    try:
        value = datetime.fromisoformat(text)
        return None if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


async def _flags(connection: Connection, caller: Caller, sender: str | None, event: dict[str, Any]) -> list[str]:
    """What does not fit: a changed body, a gap or a fork in the device's chain, another sender, a revoked device.

    ``sender`` is the device that signed the request in place of a user.
    """
    flags = []
    if event_hash(event) != event["hash"]:
        flags.append("hash-mismatch")
    if sender is None and event["userId"] != caller.user:
        flags.append("sent-by-another-user")
    if sender is not None:
        flags.append("sent-by-device" if sender == event["deviceId"] else "sent-by-another-device")
    device = await devices.find(connection, event["deviceId"])
    if device is None:
        flags.append("device-unknown")
    elif device.revoked_at is not None:
        flags.append("device-revoked")
    neighbours = await connection.fetch(
        """SELECT (detail->'event'->>'sequence')::bigint AS sequence, detail->'event'->>'hash' AS hash
           FROM audit_events WHERE tenant_id = $1 AND device_id = $2 AND device_event_id IS NOT NULL
             AND device_event_id <> $3 AND (detail->'event'->>'sequence')::bigint IN ($4::bigint, $4::bigint - 1)""",
        caller.tenant,
        event["deviceId"],
        event["eventId"],
        event["sequence"],
    )
    by_sequence = {row["sequence"]: row["hash"] for row in neighbours}
    before = by_sequence.get(event["sequence"] - 1)
    # A chain begins with sequence 1, or 0, after 64 zeros; any other event has one before it.
    begins = event["previousHash"] == "0" * 64 and event["sequence"] <= 1
    if event["sequence"] in by_sequence or (before is not None and before != event["previousHash"]):
        flags.append("fork")
    elif before is None and not begins:
        flags.append("gap")
    return flags
