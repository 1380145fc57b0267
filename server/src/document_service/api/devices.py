"""Routes of devices: enrol at sign-in, list, revoke (contract §2)."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from document_service import audit, devices, identifiers
from document_service.api import paging, shapes, trail
from document_service.api.callers import AnyCaller, Opened, TenantAdmin
from document_service.database import tenant_transaction
from document_service.devices import Device

router = APIRouter(prefix="/v1/devices", tags=["device"])


def _shown(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "name": device.name,
        "userId": device.user_id,
        "createdAt": shapes.instant(device.created_at),
        "lastSeenAt": shapes.instant(device.last_seen_at),
        "revokedAt": None if device.revoked_at is None else shapes.instant(device.revoked_at),
        "publicKey": base64.urlsafe_b64encode(device.public_key).decode().rstrip("="),
    }


@router.post("", status_code=201, summary="Enrol this device, or say that it is still the same")
async def enrol(body: shapes.DeviceEnrolment, caller: AnyCaller, runtime: Opened, request: Request) -> Response:
    device_id = body.device_id or identifiers.new("device")
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        device, new = await devices.enrol(connection, caller, device_id, body.name, body.public_key)
        if new:
            event = trail.event(request, caller, "enrolment.create", device_id=device.id)
            await audit.record(connection, caller.tenant, event)
    return JSONResponse(_shown(device), 201 if new else 200, {"Location": f"/v1/devices/{device.id}"})


@router.get("", summary="My devices; for an administrator all of the tenant")
async def list_devices(
    caller: AnyCaller, runtime: Opened, cursor: paging.Cursor = None, limit: paging.Limit = paging.DEFAULT_LIMIT
) -> Response:
    after = paging.decode(cursor)
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        rows = await devices.list_page(connection, caller, after, limit + 1)
    return JSONResponse(paging.page(rows, limit, _shown))


@router.post("/{device_id}/revoke", summary="A lost device: its cache is purged at its next contact")
async def revoke(
    device_id: str,
    caller: TenantAdmin,
    runtime: Opened,
    request: Request,
    body: shapes.OptionalReasonRequest | None = None,
) -> Response:
    reason = None if body is None else body.reason
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        device, done = await devices.revoke(connection, caller, device_id, reason, runtime.keys)
        if done:
            detail = {} if reason is None else audit.sealed_reason(runtime.keys.seal, caller.tenant, reason)
            event = trail.event(request, caller, "enrolment.revoke", device_id=device.id, detail=detail)
            await audit.record(connection, caller.tenant, event)
    return JSONResponse(_shown(device))
