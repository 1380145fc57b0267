"""Who opened, printed or still holds a document, for a recall (contract §2)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from document_service import audit, devices, documents, tenants
from document_service.api import shapes, trail
from document_service.api.callers import Opened, TenantAdmin
from document_service.audit import Acts
from document_service.database import tenant_transaction
from document_service.devices import Copies

router = APIRouter(prefix="/v1/documents", tags=["documents"])

#: What each count of a holder is made of. A print whose end is unknown counts: paper may be lying in a tray.
_COUNTS = {
    "viewed": ("document.view",),
    "linked": ("document.download-url",),
    "downloaded": ("document.download",),
    "opened": ("device.document.opened",),
    "printed": ("device.print.submitted", "device.print.unknown"),
    "saved": ("device.document.saved", "device.document.exported"),
}

#: Contract §4: without the server's word, bytes outlive their expiry on a device by this long.
_GRACE = timedelta(hours=72)


@router.get("/{document_id}/holders", summary="Who opened, printed or still caches it")
async def holders(document_id: str, caller: TenantAdmin, runtime: Opened, request: Request) -> Response:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        document = await documents.show(connection, caller, document_id, runtime.keys)
        acts = await audit.acts_on_document(connection, caller.tenant, document.id)
        copies = {(copy.user_id, copy.device_id): copy for copy in await devices.copies_of(connection, document.id)}
        tenant = await tenants.show(connection, caller.tenant)
        await audit.record(connection, caller.tenant, trail.event(request, caller, "document.holders", document))
    life = timedelta(seconds=tenant.cache_policy(runtime.settings)["cacheTtlSeconds"]) + _GRACE
    found: dict[tuple[str, str | None], list[Acts]] = {}
    for act in acts:
        if any(act.action in actions for actions in _COUNTS.values()):
            found.setdefault((act.actor, act.device_id), []).append(act)
    items = [_holder(who, done, copies.get((who[0], who[1] or "")), life) for who, done in found.items()]
    return JSONResponse({"documentId": document.id, "status": document.status, "items": items})


def _holder(who: tuple[str, str | None], acts: list[Acts], copy: Copies | None, life: timedelta) -> dict[str, Any]:
    counts = {name: _sum(acts, actions) for name, actions in _COUNTS.items()}
    return {
        # Whoever holds a signed URL may fetch the bytes; who asked for it is the holder named by ``linked``.
        "userId": None if who[0] == "signed-url" else who[0],
        "deviceId": who[1],
        "deviceName": None if copy is None else copy.name,
        "deviceLastSeenAt": None if copy is None else shapes.instant(copy.last_seen_at),
        "firstAt": shapes.instant(min(act.first_at for act in acts)),
        "lastAt": shapes.instant(max(act.last_at for act in acts)),
        **counts,
        "copy": _copy_state(acts, copy, life),
    }


def _sum(acts: Iterable[Acts], actions: tuple[str, ...]) -> int:
    return sum(act.times for act in acts if act.action in actions)


def _copy_state(acts: Iterable[Acts], copy: Copies | None, life: timedelta) -> str | None:
    """What became of the sealed copy on the device; None where none was fetched by an enrolled device."""
    fetched = [act.last_at for act in acts if act.action == "document.download-url"]
    if copy is None or not fetched:
        return None
    if copy.applied:
        return "dropped"
    if max(fetched) + life < datetime.now(UTC):
        return "expired"
    # A revoked device purges at its next contact; until it is heard of again its copy has to be counted.
    if copy.revoked_at is not None and copy.last_seen_at > copy.revoked_at:
        return "purged"
    return "kept"
