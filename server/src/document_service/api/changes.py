"""The change feed and the signed cache policy (contract §4)."""

from __future__ import annotations

import base64
import time
from typing import Annotated, Any

import rfc8785
from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from document_service import changes, devices, documents, recovery, render_jobs, templates
from document_service.api import shapes
from document_service.api.callers import Clinician, Opened
from document_service.changes import Page, Position
from document_service.database import tenant_transaction
from document_service.errors import FeedReset
from document_service.runtime import Runtime
from document_service.tenants import Tenant
from document_service.tenants import show as show_tenant
from document_service.tokens import Caller

router = APIRouter(prefix="/v1/documents", tags=["device"])

#: Proxies and mobile networks end a silent connection after a minute or less (contract §2: up to 30 s).
LONGEST_WAIT = 30


_POLICY_HELP = "The last 8 or more characters of the signature of the policy you have; 204 when nothing is new then."
_SHORTEST_POLICY_MARK = 8


def _has_policy(mark: str | None, policy: dict[str, Any]) -> bool:
    """Whether the caller has this very policy; equal content has an equal signature (Ed25519)."""
    return mark is not None and len(mark) >= _SHORTEST_POLICY_MARK and str(policy["signature"]).endswith(mark)


def signed_policy(runtime: Runtime, tenant: Tenant) -> dict[str, Any]:
    """The cache policy with its signature: ``kid.signature`` over the tenant and the policy's canonical JSON."""
    policy = tenant.cache_policy(runtime.settings)
    policy["recoveryKey"] = recovery.public_key(runtime.keys, tenant.tenant_id)
    # KeyStore.sign puts the purpose in front: "document-service cache-policy v1" and a line break.
    message = tenant.tenant_id.encode() + b"\n" + rfc8785.dumps(policy)
    kid, signature = runtime.keys.sign("cache-policy", message)
    return {**policy, "signature": f"{kid}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"}


@router.get("/changes", summary="What changed for this caller since a cursor")
async def read(
    caller: Clinician,
    runtime: Opened,
    request: Request,
    cursor: Annotated[str, Query(max_length=400, description="The cursor of the page before; empty to begin.")] = "",
    wait: Annotated[int, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for something new.")] = 0,
    policy: Annotated[str | None, Query(max_length=200, description=_POLICY_HELP)] = None,
) -> Response:
    after, row = changes.decode_cursor(cursor, runtime.epoch, caller, runtime.keys.mac)
    deadline = time.monotonic() + wait
    device_id = getattr(request.state, "device_id", None)
    if cursor:
        async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
            is_there = await changes.row_at(connection, caller.tenant, after) == row
            if is_there and device_id is not None:
                await devices.note_applied(connection, caller, device_id, after)
        if not is_there:
            # This service gave the cursor out for a change that the database does not hold: commits are lost, although
            # the store says nothing of it, because it was put back together with the database.
            await runtime.epochs.refute("a device has seen a change that the database does not hold")
            raise FeedReset()
    while True:
        page, answer = await _page(runtime, caller, after)
        left = deadline - time.monotonic()
        if not page.is_empty or left <= 0 or runtime.leaving.is_set():
            if page.is_empty and page.position == after and _has_policy(policy, answer["cachePolicy"]):
                # A device asks a thousand times a day over a link that is paid by the byte.
                return Response(status_code=204)
            return JSONResponse(answer)
        # No connection is held while waiting.
        await request.app.state.feed_watch.wait(caller.tenant, page.position, left)


async def _page(runtime: Runtime, caller: Caller, after: Position) -> tuple[Page, dict[str, Any]]:
    async with tenant_transaction(runtime.database.app, caller.tenant) as connection:
        page = await changes.read(connection, caller, after)
        row = await changes.row_at(connection, caller.tenant, page.position)
        tenant = await show_tenant(connection, caller.tenant)
        changed_templates = await templates.list_by_ids(connection, caller, page.templates)
        changed_jobs = await render_jobs.list_by_ids(connection, caller, page.jobs)
        changed_documents = await documents.list_by_ids(connection, caller, page.documents, runtime.keys)
    return page, {
        "cursor": changes.encode_cursor(runtime.epoch, caller, page.position, row, runtime.keys.mac),
        "more": page.more,
        "revocations": [{"documentId": entity, "reason": reason} for entity, reason in page.revocations],
        "templates": [shapes.template(template) for template in changed_templates],
        "jobs": [shapes.job(job) for job in changed_jobs],
        "documents": [shapes.document(document) for document in changed_documents],
        "cachePolicy": signed_policy(runtime, tenant),
    }
